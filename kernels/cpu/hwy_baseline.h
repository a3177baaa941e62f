// Include before Highway: the binary's baseline (x86-64-v3) is its AVX2 target, so it builds AVX2
// and AVX3 and nothing older. (Highway's own detection wants AES too, which x86-64-v3 does not
// promise and we do not use.)
#pragma once

#define HWY_BASELINE_TARGETS HWY_AVX2
