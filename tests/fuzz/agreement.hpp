#pragma once

#include "reference/case.hpp"

namespace rehyat::fuzz {

/// What an operator wrote for one batch entry, its valid tokens; empty where it was not asked to.
struct EntryOutput {
  reference::Array<double> y, row_max, row_sum, linear_denominator;
};

/// The elements of y [Nq, H, Dv] that some NaN or infinity of the inputs reaches (1), as SPEC's section on
/// bad input says: those of queries and keys reach all channels of a row that attends to them, those of
/// values their own channel.
reference::Array<char> reached_by_nonfinite(const reference::Case& c);

/// Fails unless what is reached is not finite and all else is near the double reference. "Near", for each
/// query and head: within twice the error of the plain float32 implementation + 4e-6 of the row's largest
/// magnitude + the larger of
/// - the largest change that inputs and weights moved by 2^-21 to 2^-20 of their size make to the reference
/// (a dozen draws);
/// - 4e-6 of what the row would be if no two of its terms cancelled (outputs and linear denominators).
///
/// Nothing is compared but the reach where single precision promises nothing:
/// - a finite input beyond 1e4 anywhere in the entry (sums and powers may overflow);
/// - rows in which the reference or the plain implementation is not finite (0 / 0, overflow);
/// - rows whose linear denominator is neither 0 nor between 1e-12 and 1e20 (features at the ends of float32's
/// range), or is 0
///   by gelu, which the reference lets cancel;
/// - rows for which that allows more than a tenth (cancellation, scores too large for their exponential).
void expect_agreement(const reference::Case& c, const EntryOutput& actual);

}  // namespace rehyat::fuzz
