// Included before every kernel: CUDA's device language as plain C++.
#pragma once
#include "simt/base.h"
#include "simt/vector.h"
#include "simt/math.h"
#include "simt/warp.h"
#include "simt/atomic.h"
#include "simt/address.h"
#include "simt/ptx.h"
#include "simt/launch.h"
