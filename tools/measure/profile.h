// The device profile of this machine, measured: what `inspect --explain` predicts with.
#pragma once

#include "runtime/device/device.h"
#include "runtime/factor/device_profile.h"

namespace rankine {

// Takes about a second.
DeviceProfile MeasureProfile(Device& device);

}  // namespace rankine
