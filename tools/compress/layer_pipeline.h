// Layers through a method by several threads, up to two neighbouring layers at a time: threads that
// find nothing left to do in one go on in the next, whose input is read meanwhile. What comes out
// does not depend on the number of threads.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "tools/compress/layer_factorizer.h"

namespace rankine {

// A layer's input and what it points to. On the heap, as `input` points into it.
struct LayerWork {
  int64_t layer = 0;
  std::optional<LayerStatistics> statistics;
  std::optional<std::map<std::string, std::vector<double>>> fisher;
  LayerInput input;
};

// Owns its threads. Used by one thread, on which `done` is called.
class LayerPipeline {
 public:
  using Done = std::function<absl::Status(int64_t layer, const LayerPart& part)>;

  // `done` gets the layers in the order in which they were added; `job` outlives the pipeline.
  LayerPipeline(const FactorJob& job, Done done);
  // Work that was begun is finished, the rest dropped.
  ~LayerPipeline();
  LayerPipeline(const LayerPipeline&) = delete;
  LayerPipeline& operator=(const LayerPipeline&) = delete;

  // Returns while at most one layer is unfinished, none where the statistics of two would take too
  // much memory. The error is that of the first layer that failed, or of `done`.
  absl::Status Add(std::unique_ptr<LayerWork> work);
  // Returns when nothing is unfinished. Errors as Add.
  absl::Status Drain();

 private:
  struct Entry {
    std::unique_ptr<LayerWork> work;
    std::unique_ptr<LayerFactorization> run;
    size_t next = 0, finished = 0;  // parts; guarded by mutex_
  };

  void Work();
  absl::Status FinishDownTo(size_t unfinished);

  const FactorJob& job_;
  const Done done_;
  std::mutex mutex_;
  std::condition_variable added_, finished_;
  std::deque<std::unique_ptr<Entry>> entries_;  // guarded by mutex_
  bool stop_ = false;                           // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace rankine
