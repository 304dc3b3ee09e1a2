// A decoder of .uigc files in C++17, from bytes to the grid of tokens: docs/FORMAT.md, section by section.
//
// It needs only the standard library. You bring the networks: decode() calls your function for each stage of the prior
// and returns a grid of tokens, which the bundle's decoder graph turns into an image (decode.cpp runs both with ONNX
// Runtime). Everything here is integer arithmetic, so the grid is the same on every machine whose prior is exact.
//
// Nothing here has a state of its own: calls from many threads do not meet. Inputs may come from strangers; each works
// or throws an Error (docs/SECURITY.md).

#pragma once

#include "uigc/bitstream.hpp"      // section 1: the header of a file
#include "uigc/decode.hpp"         // section 4: decode() and pixels()
#include "uigc/entropy_coder.hpp"  // section 3: the range decoder and its tables
#include "uigc/errors.hpp"         // what is thrown
#include "uigc/limits.hpp"         // how large anything may be
#include "uigc/mask.hpp"           // section 2: which tokens a file holds
#include "uigc/model.hpp"          // what decoding needs from a bundle
#include "uigc/regeneration.hpp"   // section 5: lost tokens
