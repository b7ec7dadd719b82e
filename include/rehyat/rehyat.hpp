#pragma once

/// @file rehyat/rehyat.hpp
/// CPU attention kernels for video diffusion transformers: everything but the optional readers in rehyat/io.

#include "rehyat/attention.hpp"
#include "rehyat/element.hpp"
#include "rehyat/executor.hpp"
#include "rehyat/feature_map.hpp"
#include "rehyat/kernels.hpp"
#include "rehyat/operation_count.hpp"
#include "rehyat/packed_weights.hpp"
#include "rehyat/recurrent.hpp"
#include "rehyat/schedule.hpp"
#include "rehyat/status.hpp"
#include "rehyat/tensor_view.hpp"
#include "rehyat/thread_pool.hpp"
#include "rehyat/version.hpp"
#include "rehyat/workspace.hpp"
