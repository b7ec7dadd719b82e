#pragma once
// A mutator that knows how a safetensors file is built: without it nearly every mutation ends at the length
// prefix, at the JSON's syntax or at the size of the data.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "support/random.hpp"
#include "support/safetensors_fragments.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace rehyat::fuzz {

/// A file taken apart.
struct SafetensorsParts {
  std::string header, data;

  explicit SafetensorsParts(std::span<const std::uint8_t> file) {
    std::uint64_t length = 0;
    if (file.size() < sizeof length) return;
    std::memcpy(&length, file.data(), sizeof length);
    const std::string_view rest(reinterpret_cast<const char*>(file.data()) + sizeof length,
                                file.size() - sizeof length);
    header = rest.substr(0, length);
    data = rest.substr(header.size());
  }
};

/// Lets libFuzzer change a text.
inline void mutate(std::string& text, std::size_t room) {
  const std::size_t size = text.size();
  text.resize(size + room);
  text.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(text.data()), size, size + room));
}

/// Writes the tensors of one side of a valid file; the shapes as either of the two spellings.
class TensorWriter {
 public:
  explicit TensorWriter(support::Random& random) : random_(random) {}

  std::string header;
  std::int64_t size = 0;

  void add_layers(const char* side, std::int64_t heads, std::int64_t features) {
    std::int64_t in_dim = test::fragment_heads.head_dim;
    const std::int64_t layers = random_.integer(1, max_feature_layers);
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      const std::int64_t out_dim = layer + 1 == layers ? features : random_.integer(1, 5);
      const std::string name = std::string(side) + "." + std::to_string(layer);
      const bool as_convolution = random_.coin();
      add(name + ".weight",
          as_convolution ? numbers({heads * out_dim, in_dim, 1}) : numbers({heads, out_dim, in_dim}),
          heads * out_dim * in_dim);
      if (random_.coin()) {
        add(name + ".bias", as_convolution ? numbers({heads * out_dim}) : numbers({heads, out_dim}),
            heads * out_dim);
      }
      in_dim = out_dim;
    }
  }

 private:
  static std::string numbers(std::initializer_list<std::int64_t> values) {
    std::string text;
    for (const std::int64_t value : values) text += (text.empty() ? "" : ",") + std::to_string(value);
    return "[" + text + "]";
  }

  void add(const std::string& name, const std::string& shape, std::int64_t count) {
    const StoredType type =
        random_.pick({StoredType::float32, StoredType::float16, StoredType::bfloat16, StoredType::float64});
    constexpr const char* dtypes[] = {"F16", "BF16", "F32", "F64"};
    const std::int64_t end = size + count * stored_size(type);
    header += ",\"" + name + "\":{\"dtype\":\"" + dtypes[static_cast<int>(type)] + "\",\"shape\":" + shape +
              ",\"data_offsets\":" + numbers({size, end}) + "}";
    size = end;
  }

  support::Random& random_;
};

/// A file that is accepted.
inline void generate(support::Random& random, SafetensorsParts& parts) {
  const std::int64_t degree = random.integer(1, max_feature_degree), features = degree * random.integer(1, 3);
  TensorWriter tensors(random);
  tensors.add_layers("phi_q", test::fragment_heads.query_heads, features);
  tensors.add_layers("phi_k", test::fragment_heads.kv_heads, features);
  const auto activation = [&] {
    return random.pick({"identity", "relu", "gelu", "silu", "softplus", "elu1"});
  };
  parts.header = "{\"__metadata__\":{\"degree\":\"" + std::to_string(degree) + "\",\"activation\":\"" +
                 activation() + "\",\"output_activation\":\"" + activation() + "\"}" + tensors.header + "}";
  parts.data.assign(static_cast<std::size_t>(tensors.size), '\x3f');
}

/// The largest second number of a data_offsets list; 0 if there is none.
inline std::size_t declared_data_size(const std::string& header) {
  constexpr std::string_view key = "\"data_offsets\":[";
  std::size_t largest = 0;
  for (std::size_t at = header.find(key); at != std::string::npos; at = header.find(key, at + 1)) {
    const std::size_t comma = header.find(',', at);
    if (comma == std::string::npos) break;
    largest = std::max<std::size_t>(largest, std::strtoull(header.c_str() + comma + 1, nullptr, 10));
  }
  return largest;
}

/// Copies one piece of the header, from a quote to a later one, to another place that follows a quote.
inline void move_piece(support::Random& random, std::string& header) {
  const auto quote = [&] {
    const std::size_t from =
        static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(header.size())));
    return std::min(header.find('"', from), header.size());
  };
  const std::size_t begin = quote(), end = quote(), to = quote();
  if (begin < end) header.replace(to, random.coin() ? end - begin : 0, header.substr(begin, end - begin));
}

/// Mutates `file`, in place and to at most `max_size` bytes; returns its new size.
inline std::size_t mutate_safetensors(std::span<std::uint8_t> file, std::size_t max_size, unsigned seed) {
  support::Random random(seed);
  if (random.integer(0, 15) == 0) return LLVMFuzzerMutate(file.data(), file.size(), max_size);
  SafetensorsParts parts(file);
  if (parts.header.empty() || random.integer(0, 15) == 0) generate(random, parts);
  for (std::int64_t i = random.integer(1, 3); i > 0; --i) {
    switch (random.integer(0, 3)) {
      case 0:
        mutate(parts.data, 16);
        break;
      case 1:
        move_piece(random, parts.header);
        break;
      default:
        mutate(parts.header, 64);
    }
  }
  const std::size_t declared = declared_data_size(parts.header);
  if (declared <= max_size && random.coin()) parts.data.resize(declared, '\0');
  const std::uint64_t slip =
      random.integer(0, 15) == 0 ? static_cast<std::uint64_t>(random.integer(-2, 2)) : 0;
  const std::string mutated = test::with_length(parts.header.size() + slip, parts.header, parts.data);
  const std::size_t size = std::min(mutated.size(), max_size);
  std::copy_n(mutated.data(), size, file.data());
  return size;
}

}  // namespace rehyat::fuzz
