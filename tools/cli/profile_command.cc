// rankine profile: measure this machine once, for the predictions of inspect --explain.
#include <CLI/CLI.hpp>

#include "absl/strings/str_format.h"
#include "models/files/json_text.h"
#include "tools/cli/command.h"
#include "tools/cli/output.h"
#include "tools/measure/profile.h"

namespace rankine {
namespace {

struct ProfileFlags {
  CpuOptions cpu;
  bool json = false;
};

absl::Status Profile(const ProfileFlags& flags) {
  auto device = MakeCpuDevice(flags.cpu);
  if (!device.ok()) return device.status();
  auto path = ProfilePath(**device);
  if (!path.ok()) return path.status();
  const SettledProfile measured = MeasureSettledProfile(**device);
  const DeviceProfile& p = measured.profile;
  WarnIfBusy(measured);
  if (auto status = SaveProfile(p, *path); !status.ok()) return status;
  if (flags.json) {
    const nlohmann::ordered_json json = {{"path", *path},
                                         {"device", (*device)->description()},
                                         {"read_bytes_per_second", p.read_bytes_per_second},
                                         {"l3_bytes_per_second", p.l3_bytes_per_second},
                                         {"l2_bytes_per_second", p.l2_bytes_per_second},
                                         {"l3_bytes", p.l3_bytes},
                                         {"l2_bytes", p.l2_bytes},
                                         {"f32_flops_per_second", p.f32_flops_per_second},
                                         {"bf16_flops_per_second", p.bf16_flops_per_second},
                                         {"int8_flops_per_second", p.int8_flops_per_second},
                                         {"few_int8_flops_per_second", p.few_int8_flops_per_second},
                                         {"step_seconds", p.step_seconds},
                                         {"store_seconds", p.store_seconds},
                                         {"own_share", measured.own_share}};
    PrintNow(DumpJson(json) + "\n");
    return absl::OkStatus();
  }
  PrintNow(absl::StrFormat(
      "%s\nread: memory %.1f GB/s, L3 %.1f, L2 %.1f\n"
      "products: f32 %.0f GFLOP/s, bf16 %.0f, int8 %.0f (few rows %.0f)\n%.1f us a parallel step, "
      "%.2f ns to store "
      "16 outputs\nkept in %s\n",
      (*device)->description(), p.read_bytes_per_second * 1e-9, p.l3_bytes_per_second * 1e-9,
      p.l2_bytes_per_second * 1e-9, p.f32_flops_per_second * 1e-9, p.bf16_flops_per_second * 1e-9,
      p.int8_flops_per_second * 1e-9, p.few_int8_flops_per_second * 1e-9, p.step_seconds * 1e6,
      p.store_seconds * 1e9, *path));
  return absl::OkStatus();
}

}  // namespace

void AddProfileCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<ProfileFlags>();
  CLI::App* command = app.add_subcommand(
      "profile", "Measure what this machine can do, and keep it for inspect --explain");
  command
      ->add_option("--threads", flags->cpu.num_threads,
                   "Threads (default: the cores this process may run on)")
      ->check(CLI::Range(1, 1024));
  command->add_option("--isa", flags->cpu.isa, "Instruction set, as for other commands");
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags, action] { *action = [flags] { return Profile(*flags); }; });
}

}  // namespace rankine
