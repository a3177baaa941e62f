// adapter_config.json of a PEFT LoRA adapter (arXiv 2106.09685).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "models/name_pattern.h"

namespace rankine {

// What decides the numbers of an adapter; who was trained, and how, does not matter here.
class AdapterConfig {
 public:
  // Reads `folder`/adapter_config.json. kInvalidArgument names the key of what would change the
  // result and is not supported: another method than LoRA, DoRA, biases, modules saved whole,
  // initialisations that change the base.
  static absl::StatusOr<AdapterConfig> Read(const std::string& folder);

  // Rank and scale of the linear `name` (without PEFT's prefix): alpha / r, or alpha / sqrt(r) for
  // rsLoRA.
  int64_t RankOf(const std::string& name) const;
  double ScaleOf(const std::string& name) const;
  bool is_rank_stabilised() const { return rank_stabilised_; }

 private:
  // PEFT's rank_pattern and alpha_pattern: the first expression that matches a name, or its end
  // after a dot, gives the number.
  using Patterns = std::vector<std::pair<NamePattern, double>>;
  static double Match(const Patterns& patterns, const std::string& name, double otherwise);

  double rank_ = 0;
  double alpha_ = 0;
  bool rank_stabilised_ = false;
  Patterns rank_patterns_, alpha_patterns_;
};

}  // namespace rankine
