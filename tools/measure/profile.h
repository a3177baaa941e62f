// The device profile of this machine, measured: what `inspect --explain` predicts with.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/factor/device_profile.h"

namespace rankine {

// One round, about two seconds. Arithmetic is that of the device's own products, not of bare
// instructions.
DeviceProfile MeasureProfile(Device& device);

struct SettledProfile {
  DeviceProfile profile;
  double own_share = 0;  // the most that a round had (own_share.h)
};

// The best figures of two rounds or more, up to five while a round still betters one of them by
// more than a twentieth or other programs take the processor: a moment's load doesn't show.
SettledProfile MeasureSettledProfile(Device& device);

// "note: ..." on stderr when the figures are of a machine that others kept busy.
void WarnIfBusy(const SettledProfile& measured);

// Profiles are kept under ${RANKINE_HOME:-~/.cache/rankine}, one for each processor and device
// description.
absl::StatusOr<std::string> ProfilePath(Device& device);
absl::Status SaveProfile(const DeviceProfile& profile, const std::string& path);
// kNotFound when there is none; kInvalidArgument names the file when it can't be used.
absl::StatusOr<DeviceProfile> LoadProfile(const std::string& path);
// The kept profile. Where there is none it is measured, and kept unless the machine was busy, of
// which it warns.
absl::StatusOr<DeviceProfile> KeptOrMeasuredProfile(Device& device);

}  // namespace rankine
