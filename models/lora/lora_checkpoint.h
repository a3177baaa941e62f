// A base model and a PEFT LoRA adapter as one checkpoint.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"

namespace rankine {

// The checkpoint `base` whose adapted linears are W + L R, two terms: the base's own (dense,
// blocks or factors, as it was) and L = scale x lora_B [out, r] with R = lora_A [r, in] from
// `folder`/adapter_model.safetensors. The product is never made. Values of L are rounded once, in
// the dtype they are read as.
// kInvalidArgument names the key of adapter_config.json or the tensor that is not supported, does
// not fit, or belongs to no linear of the base; also an adapted linear with transforms, whose basis
// is not the adapter's.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenLora(std::unique_ptr<Checkpoint> base,
                                                     const std::string& folder);

}  // namespace rankine
