"""Mistakes that one could make in these algorithms, by hand: exact texts to replace, each there exactly once."""

import dataclasses

from rules import collapsed

SCHEDULE = "include/rehyat/detail/"
KERNEL = "include/rehyat/kernel/"
TRAINING = "include/rehyat/train/detail/"


@dataclasses.dataclass(frozen=True)
class NamedMutant:
    name: str
    file: str
    changes: tuple  # of (text, replacement)

    function = ""
    rule = "named"
    original = property(lambda self: collapsed(" ... ".join(old for old, _ in self.changes)))
    mutated = property(lambda self: collapsed(" ... ".join(new for _, new in self.changes)))

    def key(self):
        return (self.file, self.function, f"named {self.name}", self.original, self.mutated)

    def id(self):
        return f"named-{self.name}"

    def apply(self, source):
        for old, new in self.changes:
            if source.count(old) != 1:
                raise ValueError(f"{self.id()}: this text is {source.count(old)} times in {self.file}, expected once; "
                                 f"bring tests/mutation/named.py up to date:\n{old}")
            source = source.replace(old, new)
        return source


def schedule(name, file, *changes):
    return NamedMutant(name, f"{SCHEDULE}{file}.hpp", changes)


def kernel(name, file, *changes):
    return NamedMutant(name, f"{KERNEL}{file}.hpp", changes)


def training(name, file, *changes):
    return NamedMutant(name, f"{TRAINING}{file}.hpp", changes)


NAMED = (
    # which keys
    schedule("overlap_absorbed_twice_in_one_shot", "one_shot",
             ("to = softmax_begin(t + 1, c), cut", "to = (t + 1) * c.chunk_frames, cut")),
    schedule("overlap_absorbed_twice_in_recurrence", "recurrent_state",
             ("work.keys.add(now, 0, (to - seen) * m);", "work.keys.add(now, 0, frames(b) * m);")),
    schedule("tail_not_absorbed", "recurrent_state",
             ("work.keys.add(tail, 0, ((to < seen ? to : seen) - from) * m);", "")),
    schedule("tail_shifted_by_one_frame", "recurrent_state",
             ("memory.shift_tail(b, g, (to < seen ? to - from : 0) * m,",
              "memory.shift_tail(b, g, (to < seen && to > from ? to - from - 1 : 0) * m,")),
    schedule("short_chunk_does_not_finish", "recurrent_state", ("header.finished = 1;", "header.finished = 0;")),
    schedule("linear_peek_writes_the_state", "recurrent_state",
             ("linear && !commits ? plan.peeked : sums", "sums")),
    schedule("other_entry_copied", "recurrent_state", ("source.entry(from)", "source.entry(to)")),
    schedule("counts_of_keys_ignored", "problem",
             ("return key_counts.empty() ? k.tokens / unit() : key_counts[static_cast<std::size_t>(b)];",
              "return static_cast<void>(b), k.tokens / unit();")),
    schedule("counts_of_queries_ignored", "problem",
             ("return query_counts.empty() ? q.tokens / unit() : query_counts[static_cast<std::size_t>(b)];",
              "return static_cast<void>(b), q.tokens / unit();")),
    schedule("keys_of_another_head", "tasks",
             ("task.softmax[i] = {.k = head_rows_at(views.k, b, span.begin, g),",
              "task.softmax[i] = {.k = head_rows_at(views.k, b, span.begin, 0),")),
    schedule("wrong_first_query_head", "tasks", (".first_head = g * heads_per_kv,", ".first_head = g,")),
    schedule("wrong_head_of_phi_k", "tasks", (".head = g,", ".head = 0,")),
    schedule("given_features_of_k_denominator_ignored", "tasks",
             (".k_denominator = given ?", ".k_denominator = !call.phi_k ?")),
    schedule("overlap_that_cuts_a_chunk_ignored", "one_shot",
             ("rest = c.overlap_frames % c.chunk_frames;", "rest = 0;")),
    schedule("every_key_softmax_in_uniform", "one_shot", ("strided.k.token_stride *= rate;", "")),
    kernel("prefix_holds_the_cut_segment", "absorb",
           ("2 * (t - task.whole_chunks) - task.odd", "2 * (t - task.whole_chunks)")),
    kernel("suffix_holds_the_chunk_itself", "absorb",
           ("after.hi.store(task.out + t * task.stride + i);\n", ""),
           ("after.add(segment(2 * t));\n",
            "after.add(segment(2 * t));\n      after.hi.store(task.out + t * task.stride + i);\n")),
    kernel("later_keys_forgotten", "absorb", ("(before.hi + V::load(out)).store(out);", "before.hi.store(out);")),
    kernel("skip_rate_off_by_one", "pack", ("i + i / (skip_rate - 1) + 1", "i + i / skip_rate + 1")),
    kernel("last_key_of_a_block_left_out", "key_blocks",
           ("keys.count - first_ < key_block ? keys.count - first_ : key_block;",
            "keys.count - first_ < key_block ? keys.count - first_ : key_block - 1;")),
    # softmax and the joint normalisation
    schedule("scale_applied_twice", "problem", ("(natural * 1.44", "(natural * natural * 1.44")),
    schedule("scale_for_powers_of_e", "problem", ("(natural * 1.4426950408889634)", "(natural)")),
    kernel("accumulators_not_rescaled", "online_softmax",
           ("factor[c].store(rescale + c * V::lanes);", "V::broadcast(1.0f).store(rescale + c * V::lanes);")),
    kernel("row_sum_not_rescaled", "online_softmax",
           ("fma(V::load(running_sum + c * V::lanes), factor[c], total[c])",
            "(V::load(running_sum + c * V::lanes) + total[c])")),
    kernel("linear_term_before_the_final_maximum", "attend",
           ("softmax_step<C>(task, b, near, s.weights, ahead); });",
            "const bool first = b.softmax.running_sum[0] == 0.0f;\n"
            "softmax_step<C>(task, b, near, s.weights, ahead);\n"
            "if (!first || task.sums == nullptr) return;\n"
            "float linear[query_block] = {};\n"
            "read_features<C>(task, b, s, linear);\n"
            "join_linear<C>(task, b, s, linear, b.softmax.running_sum); });"),
           ("if (task.sums != nullptr) {\n    read_features<C>",
            "if (task.sums != nullptr && task.num_softmax == 0) {\n    read_features<C>")),
    kernel("stabilizer_none_ignored", "attend", ("if (task.stabilizer == Stabilizer::row_max ||", "if (true ||")),
    kernel("poison_of_infinite_keys_skipped", "attend",
           ("if (any_infinite) poison", "if (false && any_infinite) poison")),
    kernel("rows_without_a_finite_score_not_nan", "attend", ("sum + (max - max) : sum", "sum : sum")),
    kernel("row_max_in_powers_of_two", "attend", ("b.softmax.running_max, ln2);", "b.softmax.running_max, 1.0f);")),
    kernel("report_with_epsilon", "attend",
           ("report_denominators(*task.report, denominator, b.count);\n", ""),
           ("divide_rows<C>(b.out,",
            "report_denominators(*task.report, denominator, b.count);\n  divide_rows<C>(b.out,")),
    kernel("report_of_padding", "attend",
           ("report_denominators(*task.report, denominator, b.count);",
            "report_denominators(*task.report, denominator, width);")),
    kernel("epsilon_after_the_floor", "join",
           ("float d = denominator[i] + epsilon;", "float d = denominator[i];"),
           ("denominator[i] = d;", "denominator[i] = d + epsilon;")),
    kernel("floor_loses_the_sign", "join", ("__builtin_copysignf(floor, d)", "floor")),
    # lanes beyond the last query
    kernel("tail_lane_written", "pack", ("if (r < rows) E::store(", "E::store(")),
    kernel("tail_lane_read", "pack", ("square.row[r] = r < rows ? E::load", "square.row[r] = true ? E::load")),
    # feature maps
    kernel("wrong_head_of_phi_q", "attend", ("read.layers(), b.head", "read.layers(), task.first_head")),
    kernel("given_features_of_q_denominator_ignored", "attend",
           ("separate = given && task.given_denominator.data != nullptr",
            "separate = given && task.given_denominator.data == denominator")),
    kernel("powers_off_by_one", "features", ("i < index; ++i", "i + 1 < index; ++i")),
    kernel("output_activation_between_layers", "features",
           ("last ? map.output_activation : map.activation", "map.output_activation")),
    kernel("rows_not_finite_pass_as_finite", "features",
           ("if (is_finite<E>(source.row<E>(first + i), source.dim)) continue;", "continue;")),
    kernel("gelu_by_tanh", "exp",
           ("return fma(n.magnitude, n.minus_ratio * n.bell, relu(x));",
            "const T y = x * fma(x * x, T::broadcast(0.0713548162726f), T::broadcast(1.5957691216057f));\n"
            "  const T zero = T::broadcast(0.0f), s = exp_of_minus(abs(y));\n"
            "  return x * (select(less(y, zero), s, T::broadcast(1.0f)) / (T::broadcast(1.0f) + s));")),
    # precision
    NamedMutant("bfloat16_cut_off", "include/rehyat/element.hpp",
                (("(bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16", "bits >> 16"),)),
    NamedMutant("bfloat16_rounds_middles_up", "include/rehyat/element.hpp",
                (("(bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16", "(bits + 0x8000u) >> 16"),)),
    schedule("narrow_tail_takes_float32s_room", "recurrent",
             ("take(s.tail_tokens, c.head_dim, c.tail_type);", "take(s.tail_tokens, c.head_dim);")),
    kernel("compensation_dropped", "absorb", ("lo = lo + error;", "")),
    kernel("compensation_not_restored", "absorb",
           ("sum = {V::load(task.hi_in + i), V::load(task.lo_in + i)};", "sum = {V::load(task.hi_in + i), zero};")),
    # training
    kernel("product_without_its_last_column", "multiply",
           ("in_last = p.columns - (C - 1) * V::lanes;", "in_last = p.columns - (C - 1) * V::lanes - 1;")),
    kernel("silu_falls_where_it_rises", "slopes",
           ("fma(y, T::broadcast(1.0f) - s, s)", "fma(y, s - T::broadcast(1.0f), s)")),
    kernel("denominator_grows_the_output", "distance",
           ("d_joint[t.channels] = -sum_of(sum.along);", "d_joint[t.channels] = sum_of(sum.along);")),
    training("keys_learn_from_one_chunk_alone", "student", ("total += of_chunk(i);", "total = of_chunk(i);")),
    training("fallback_by_the_training_frames", "head_distiller",
             ("heads[h].distilled.validation.difference < heads[h].window.validation.difference",
              "heads[h].distilled.train.difference < heads[h].window.train.difference")),
    training("last_weights_instead_of_the_best", "head_distiller", ("weights_.all() = best_.all();", "")),
    training("clips_weigh_by_their_size", "head_distiller",
             ("static_cast<float>(share / error.size)", "static_cast<float>(share)")),
    training("every_cell_takes_the_first_place", "place_cells",
             ("d(i, right[static_cast<std::size_t>(i)]) -= 1;", "d(i, 0) -= 1;")),
)
