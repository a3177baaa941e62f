#include "tools/compress/layer_pipeline.h"

#include <algorithm>
#include <utility>

#include "kernels/cpu/thread_pool.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Statistics of a layer above which there is no second one beside it: a layer with 4096 hidden
// features has 1.4 GB and enough linears of one size to keep threads busy by itself.
constexpr int64_t kMaxSharedBytes = int64_t{512} << 20;

int64_t BytesOf(const LayerWork& work) {
  int64_t bytes = 0;
  if (!work.statistics) return 0;
  for (const GroupStatistics& group : work.statistics->groups) {
    bytes += static_cast<int64_t>(group.moments.second.values.size() * sizeof(double));
  }
  return bytes;
}

}  // namespace

LayerPipeline::LayerPipeline(const FactorJob& job, Done done) : job_(job), done_(std::move(done)) {
  const int threads = job.threads > 0 ? job.threads : DefaultNumThreads();
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

LayerPipeline::~LayerPipeline() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  added_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void LayerPipeline::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    if (stop_) return;
    const auto found = std::find_if(entries_.begin(), entries_.end(), [](const auto& entry) {
      return entry->next < entry->run->num_parts();
    });
    if (found == entries_.end()) {
      added_.wait(lock);
      continue;
    }
    Entry* entry = found->get();
    const size_t part = entry->next++;
    lock.unlock();
    entry->run->RunPart(part);
    lock.lock();
    ++entry->finished;
    finished_.notify_all();
  }
}

absl::Status LayerPipeline::FinishDownTo(size_t unfinished) {
  while (true) {
    std::unique_ptr<Entry> first;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (entries_.size() <= unfinished) return absl::OkStatus();
      Entry* front = entries_.front().get();
      finished_.wait(lock, [&] { return front->finished == front->run->num_parts(); });
      first = std::move(entries_.front());
      entries_.pop_front();
    }
    RK_ASSIGN_OR_RETURN(const LayerPart part, first->run->Collect());
    RK_RETURN_IF_ERROR(done_(first->work->layer, part));
  }
}

absl::Status LayerPipeline::Add(std::unique_ptr<LayerWork> work) {
  const bool alone = BytesOf(*work) > kMaxSharedBytes;
  if (alone) RK_RETURN_IF_ERROR(Drain());
  auto entry = std::make_unique<Entry>();
  entry->run = std::make_unique<LayerFactorization>(job_, work->input);
  entry->work = std::move(work);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    entries_.push_back(std::move(entry));
  }
  added_.notify_all();
  return FinishDownTo(alone ? 0 : 1);
}

absl::Status LayerPipeline::Drain() { return FinishDownTo(0); }

}  // namespace rankine
