// What a model takes on disk.
#pragma once

#include "models/checkpoint/checkpoint.h"
#include "tools/explore/point.h"

namespace rankine {

// Of any form. Cores that several matrices share count once.
ModelSize SizeOfModel(const Checkpoint& checkpoint);

}  // namespace rankine
