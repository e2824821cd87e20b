#pragma once
#include "simt/address.h"
