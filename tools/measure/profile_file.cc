// Profiles on disk: JSON, so that a person can read why a prediction is what it is.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/files/json_text.h"
#include "models/files/text_file.h"
#include "tools/measure/own_share.h"
#include "tools/measure/profile.h"

namespace rankine {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxProfileBytes = 1 << 16;

// "model name" of the first processor; empty where the system does not tell.
std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 1);
  }
  return "";
}

// FNV-1a, the same on every machine and build.
uint64_t Hash(const std::string& text) {
  uint64_t hash = 14695981039346656037u;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;
  return hash;
}

using Field = std::pair<const char*, double DeviceProfile::*>;
constexpr Field kRates[] = {
    {"read_bytes_per_second", &DeviceProfile::read_bytes_per_second},
    {"l3_bytes_per_second", &DeviceProfile::l3_bytes_per_second},
    {"l2_bytes_per_second", &DeviceProfile::l2_bytes_per_second},
    {"f32_flops_per_second", &DeviceProfile::f32_flops_per_second},
    {"bf16_flops_per_second", &DeviceProfile::bf16_flops_per_second},
    {"int8_flops_per_second", &DeviceProfile::int8_flops_per_second},
    {"few_int8_flops_per_second", &DeviceProfile::few_int8_flops_per_second},
    {"step_seconds", &DeviceProfile::step_seconds},
    {"store_seconds", &DeviceProfile::store_seconds},
};
using SizeField = std::pair<const char*, int64_t DeviceProfile::*>;
constexpr SizeField kSizes[] = {{"l3_bytes", &DeviceProfile::l3_bytes},
                                {"l2_bytes", &DeviceProfile::l2_bytes}};

}  // namespace

absl::StatusOr<std::string> ProfilePath(Device& device) {
  std::string folder;
  if (const char* home = std::getenv("RANKINE_HOME"); home != nullptr && *home != '\0') {
    folder = home;
  } else if (const char* user = std::getenv("HOME"); user != nullptr && *user != '\0') {
    folder = absl::StrCat(user, "/.cache/rankine");
  } else {
    return absl::FailedPreconditionError("set RANKINE_HOME to a folder for the device profile");
  }
  // 3: of the figures that a profile has; others are measured anew.
  return absl::StrFormat("%s/profile-3-%016x.json", folder,
                         Hash(absl::StrCat(ProcessorName(), "\n", device.description())));
}

absl::Status SaveProfile(const DeviceProfile& profile, const std::string& path) {
  Json json = {{"processor", ProcessorName()}};
  for (const auto& [name, field] : kRates) json[name] = profile.*field;
  for (const auto& [name, field] : kSizes) json[name] = profile.*field;
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  // Renamed into place, so that a reader never sees half of it.
  const std::string partial = path + ".partial";
  std::ofstream file(partial, std::ios::trunc);
  file << DumpJson(json, 1) << "\n";
  file.close();
  if (file) std::filesystem::rename(partial, path, error);
  if (!file || error) return absl::UnavailableError(absl::StrCat(path, ": can't be written"));
  return absl::OkStatus();
}

absl::StatusOr<DeviceProfile> LoadProfile(const std::string& path) {
  if (!std::filesystem::exists(path))
    return absl::NotFoundError(absl::StrCat(path, ": run `rankine profile`"));
  auto text = ReadTextFile(path, kMaxProfileBytes);
  if (!text.ok()) return text.status();
  const Json json = Json::parse(*text, nullptr, false);
  DeviceProfile profile;
  auto read = [&](const char* name, double* out) {
    if (!json.is_object() || !json.contains(name) || !json[name].is_number()) return false;
    *out = json[name].get<double>();
    return std::isfinite(*out) && *out >= 0;
  };
  double value = 0;
  for (const auto& [name, field] : kRates) {
    const bool may_be_zero =
        field == &DeviceProfile::step_seconds || field == &DeviceProfile::store_seconds;
    if (!read(name, &value) || (value == 0 && !may_be_zero)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": no usable ", name, "; run `rankine profile` again"));
    }
    profile.*field = value;
  }
  for (const auto& [name, field] : kSizes) {
    if (!read(name, &value) || value > 1e15) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": no usable ", name, "; run `rankine profile` again"));
    }
    profile.*field = static_cast<int64_t>(value);
  }
  return profile;
}

absl::StatusOr<DeviceProfile> KeptOrMeasuredProfile(Device& device) {
  auto path = ProfilePath(device);
  if (!path.ok()) return path.status();
  auto kept = LoadProfile(*path);
  if (!absl::IsNotFound(kept.status())) return kept;
  const SettledProfile measured = MeasureSettledProfile(device);
  if (measured.own_share < kIdleShare) {
    WarnIfBusy(measured);
  } else if (auto status = SaveProfile(measured.profile, *path); !status.ok()) {
    return status;
  }
  return measured.profile;
}

}  // namespace rankine
