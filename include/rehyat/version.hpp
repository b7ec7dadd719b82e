#pragma once

/// Version of the rehyat headers, following semantic versioning.
#define REHYAT_VERSION_MAJOR 0
#define REHYAT_VERSION_MINOR 1
#define REHYAT_VERSION_PATCH 0
