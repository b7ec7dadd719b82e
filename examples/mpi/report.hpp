#pragma once
// What the ranks did, as JSON and as a table.

#include <nlohmann/json.hpp>
#include <span>

#include "attention.hpp"

namespace rehyat::mpi {

/// The clip, and of every rank its frames, operations and bytes, as they follow from the parts alone; with
/// `reports`, if there are any, the bytes and seconds that were counted.
nlohmann::ordered_json report(const RecurrentConfig& config, std::span<const Part> parts,
                              std::span<const RankReport> reports);

/// A row a rank on standard output.
void print_table(const nlohmann::ordered_json& report);

}  // namespace rehyat::mpi
