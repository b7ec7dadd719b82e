// The peer ONNX Runtime: runs <folder>/<operator>.onnx, made by onnx_graphs.py. Answers compare.py as server.hpp says.
// Arguments: <operator> <threads> <folder>.
'use strict';

const fs = require('fs');
const path = require('path');
const readline = require('readline');

const [operation, threads, folder] = process.argv.slice(2);
const npyPreamble = 10;  // magic, version 1.0, length of the header
const say = (reply) => process.stdout.write(JSON.stringify(reply) + '\n');

const clip = JSON.parse(fs.readFileSync(path.join(folder, 'clip.json'), 'utf8'));
const {heads, tokens_per_frame, frames, head_dim} = clip;
const tokens = frames * tokens_per_frame;
const tokenMajor = operation === 'exact';  // [1, tokens, heads * head_dim]; else [heads, tokens, head_dim]
const shape = tokenMajor ? [1, tokens, heads * head_dim] : [heads, tokens, head_dim];

/// Calls use(head, token, position in the model's layout) for every row.
function forEachRow(use) {
  for (let h = 0; h < heads; ++h) {
    for (let t = 0; t < tokens; ++t) {
      use(h, t, (tokenMajor ? t * heads + h : h * tokens + t) * head_dim);
    }
  }
}

/// Reads a [heads, tokens, head_dim] array into the model's layout, a frame at a time: garbage would count as memory.
function readArray(name) {
  const file = fs.openSync(path.join(folder, name + '.npy'));
  const preamble = Buffer.alloc(npyPreamble);
  fs.readSync(file, preamble, 0, npyPreamble, 0);
  const begin = npyPreamble + preamble.readUInt16LE(8);
  const block = new Float32Array(tokens_per_frame * head_dim);
  const values = new Float32Array(heads * tokens * head_dim);
  forEachRow((h, t, position) => {
    const row = t % tokens_per_frame;
    if (row === 0) {
      fs.readSync(file, block, 0, block.byteLength, begin + (h * tokens + t) * head_dim * 4);
    }
    values.set(block.subarray(row * head_dim, (row + 1) * head_dim), position);
  });
  fs.closeSync(file);
  return values;
}

function writeArray(file, values) {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${heads}, ${tokens}, ${head_dim}), }`;
  const header = text.padEnd(127 - npyPreamble) + '\n';
  const preamble = Buffer.from('\x93NUMPY\x01\x00\x00\x00', 'latin1');
  preamble.writeUInt16LE(header.length, 8);
  const rows = new Float32Array(values.length);
  forEachRow((h, t, position) => {
    rows.set(values.subarray(position, position + head_dim), (h * tokens + t) * head_dim);
  });
  fs.writeFileSync(file, Buffer.concat([preamble, Buffer.from(header), Buffer.from(rows.buffer)]));
}

class Peer {
  constructor(ort) {
    this.ort = ort;
    this.feeds = Object.fromEntries(
        ['q', 'k', 'v'].map((name) => [name, new ort.Tensor('float32', readArray(name), shape)]));
  }

  async prepare() {
    const model = path.join(folder, operation + '.onnx');
    if (!fs.existsSync(model)) throw new Error('there is no ' + operation + '.onnx');
    this.out = new this.ort.Tensor('float32', new Float32Array(heads * tokens * head_dim), shape);
    this.session = await this.ort.InferenceSession.create(model, {
      executionProviders: ['cpu'],
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      intraOpNumThreads: Number(threads),
      interOpNumThreads: 1,
    });
    return {version: this.ort.env.versions.node, arithmetic: 'float32'};
  }

  async run() {
    const start = process.hrtime.bigint();
    await this.session.run(this.feeds, {out: this.out});
    return {seconds: Number(process.hrtime.bigint() - start) * 1e-9};
  }

  async answer(line) {
    if (line === 'prepare') return this.prepare();
    if (line === 'run') return this.run();
    if (line.startsWith('write ')) {
      writeArray(line.slice('write '.length), this.out.data);
      return {};
    }
    throw new Error('no command here: ' + line);
  }
}

async function main() {
  const peer = new Peer(require('onnxruntime-node'));
  say({quadratic_bytes: 0});
  for await (const line of readline.createInterface({input: process.stdin})) {
    if (line === 'quit') break;
    say(await peer.answer(line));
  }
}

main().then(() => process.exit(0), (error) => {
  say({error: error.message.split('\n')[0]});
  process.exit(1);
});
