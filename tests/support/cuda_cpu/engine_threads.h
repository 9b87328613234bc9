// SPDX-License-Identifier: Apache-2.0
// The threads of a block as threads of the system, so that ThreadSanitizer sees what no barrier orders. Slow.
//
// Only masks of whole warps. A thread that ends leaves its barriers, as on a GPU since Volta. Included by shim.h.
#pragma once
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace shim {
// std::barrier spins, and hundreds of threads on a few cores then never end.
class Barrier {
    std::mutex mutex;
    std::condition_variable released;
    unsigned members, arrived = 0, generation = 0;

    void release_when_all_are_here() {
        if (arrived < members) return;
        arrived = 0;
        generation++;
        released.notify_all();
    }

public:
    explicit Barrier(unsigned members_) : members(members_) {}
    void wait() {
        std::unique_lock lock(mutex);
        unsigned mine = generation;
        arrived++;
        release_when_all_are_here();
        released.wait(lock, [&] { return generation != mine; });
    }
    void leave() {
        std::unique_lock lock(mutex);
        members--;
        if (members) release_when_all_are_here();
    }
};
struct Warp {
    explicit Warp(unsigned members) : barrier(members) {}
    uint64_t slots[WARP_LANES];
    Barrier barrier;
};
inline thread_local Index thread_index_;
inline thread_local unsigned flat;
inline std::deque<Warp> warps;
inline Barrier* whole_block;

inline Index& thread_index() { return thread_index_; }
inline unsigned lane() { return flat % WARP_LANES; }
inline uint64_t* warp_slots() { return warps[flat / WARP_LANES].slots; }
inline void block_barrier() { whole_block->wait(); }
inline void warp_barrier(unsigned) { warps[flat / WARP_LANES].barrier.wait(); }
inline void prepare_launch() {}

inline void run_block(Call call, void** arguments) {
    unsigned threads = block.x * block.y * block.z;
    Barrier all(threads);
    whole_block = &all;
    warps.clear();
    for (unsigned first = 0; first < threads; first += WARP_LANES) {
        warps.emplace_back(threads - first < WARP_LANES ? threads - first : WARP_LANES);
    }
    std::vector<std::thread> running;
    for (unsigned i = 0; i < threads; i++) {
        running.emplace_back([=] {
            flat = i;
            thread_index_ = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
            call(arguments);
            whole_block->leave();
            warps[i / WARP_LANES].barrier.leave();
        });
    }
    for (std::thread& thread : running) thread.join();
}
}  // namespace shim
