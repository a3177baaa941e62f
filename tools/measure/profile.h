// The device profile of this machine, measured: what `inspect --explain` predicts with.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/factor/device_profile.h"

namespace rankine {

// Takes about two seconds. Arithmetic is that of the device's own products, not of bare
// instructions.
DeviceProfile MeasureProfile(Device& device);

// Profiles are kept under ${RANKINE_HOME:-~/.cache/rankine}, one for each processor and device
// description.
absl::StatusOr<std::string> ProfilePath(Device& device);
absl::Status SaveProfile(const DeviceProfile& profile, const std::string& path);
// kNotFound when there is none; kInvalidArgument names the file when it can't be used.
absl::StatusOr<DeviceProfile> LoadProfile(const std::string& path);
// The kept profile, or a fresh one where there is none.
absl::StatusOr<DeviceProfile> KeptOrMeasuredProfile(Device& device);

}  // namespace rankine
