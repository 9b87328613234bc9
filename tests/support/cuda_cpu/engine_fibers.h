// SPDX-License-Identifier: Apache-2.0
// The threads of a block as fibers on one core: each runs until it waits, so an order is always the same.
//
// Switching is a dozen instructions on x86-64 and ucontext elsewhere. Included by shim.h.
#pragma once
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace shim {
enum class State { RUNNING, AT_BLOCK_BARRIER, AT_WARP_BARRIER, DONE };
constexpr size_t STACK_BYTES = 64 * 1024;

struct Fiber {
    char* stack;
    State state;
    unsigned mask, flat;  // lanes that it waits for; its number in the block
    Index index;
#if defined(__x86_64__)
    void* stack_pointer;
#else
    ucontext_t context;
#endif
};
inline std::vector<Fiber> fibers;
inline Fiber* current = nullptr;
inline std::vector<uint64_t> slots;
inline Call kernel_call;
inline void** kernel_arguments;

inline Index& thread_index() { return current->index; }
inline unsigned lane() { return current->flat % WARP_LANES; }
inline uint64_t* warp_slots() { return &slots[current->flat / WARP_LANES * WARP_LANES]; }

#if defined(__x86_64__)
// Saves the callee's registers and the stack pointer to *save and continues at `to`.
extern "C" void shim_switch(void** save, void* to);
asm(R"(
.text
.weak shim_switch
.type shim_switch,@function
shim_switch:
 pushq %rbp
 pushq %rbx
 pushq %r12
 pushq %r13
 pushq %r14
 pushq %r15
 movq %rsp,(%rdi)
 movq %rsi,%rsp
 popq %r15
 popq %r14
 popq %r13
 popq %r12
 popq %rbx
 popq %rbp
 ret
.size shim_switch,.-shim_switch
)");
inline void* scheduler_stack = nullptr;
inline void leave() { shim_switch(&current->stack_pointer, scheduler_stack); }
inline void resume(Fiber& fiber) {
    current = &fiber;
    shim_switch(&scheduler_stack, fiber.stack_pointer);
}
#else
inline ucontext_t scheduler;
inline void leave() { swapcontext(&current->context, &scheduler); }
inline void resume(Fiber& fiber) {
    current = &fiber;
    swapcontext(&scheduler, &fiber.context);
}
#endif

inline void fiber_main() {
    for (;;) {
        kernel_call(kernel_arguments);
        current->state = State::DONE;
        leave();
    }
}

inline void prepare_fiber(Fiber& fiber) {
#if defined(__x86_64__)
    constexpr int SAVED_REGISTERS = 6;
    void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(fiber.stack + STACK_BYTES - 64) & ~uintptr_t{15});
    *--top = nullptr;  // fiber_main never returns; keeps the alignment of a call
    *--top = reinterpret_cast<void*>(fiber_main);
    for (int i = 0; i < SAVED_REGISTERS; i++) *--top = nullptr;
    fiber.stack_pointer = top;
#else
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
#endif
}

inline void block_barrier() {
    current->state = State::AT_BLOCK_BARRIER;
    leave();
}
inline void warp_barrier(unsigned mask) {
    current->mask = mask;
    current->state = State::AT_WARP_BARRIER;
    leave();
}

inline void prepare_launch() {
    unsigned threads = block.x * block.y * block.z;
    while (fibers.size() < threads) {
        Fiber fiber{};
        fiber.stack = static_cast<char*>(malloc(STACK_BYTES));
        fiber.flat = fibers.size();
        fibers.push_back(fiber);
    }
    for (unsigned i = 0; i < threads; i++) prepare_fiber(fibers[i]);
    slots.assign((threads + WARP_LANES - 1) / WARP_LANES * WARP_LANES, 0);
}

// Runs the fibers of one warp until all wait for the block or are done; true when any of them moved.
inline bool run_warp(unsigned first, unsigned end) {
    bool moved = false;
    for (bool again = true; again;) {
        again = false;
        unsigned arrived = 0;
        for (unsigned n = first; n < end; n++) {
            unsigned i = reversed_threads ? end - 1 - (n - first) : n;
            if (fibers[i].state == State::RUNNING) {
                resume(fibers[i]);
                moved = true;
            }
            if (fibers[i].state == State::AT_WARP_BARRIER) arrived |= 1u << (i - first);
        }
        unsigned present = end - first == WARP_LANES ? ~0u : (1u << (end - first)) - 1u;
        for (unsigned i = first; i < end && !again; i++) {
            unsigned mask = fibers[i].mask & present;
            if (fibers[i].state != State::AT_WARP_BARRIER || (mask & arrived) != mask) continue;
            for (unsigned j = first; j < end; j++) {
                if (mask >> (j - first) & 1) fibers[j].state = State::RUNNING;
            }
            again = true;
        }
    }
    return moved;
}

inline void run_block(Call call, void** arguments) {
    unsigned threads = block.x * block.y * block.z;
    kernel_call = call;
    kernel_arguments = arguments;
    for (unsigned i = 0; i < threads; i++) {
        fibers[i].state = State::RUNNING;
        fibers[i].index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    }
    for (;;) {
        bool moved = false;
        unsigned done = 0, waiting = 0;
        unsigned warps = (threads + WARP_LANES - 1) / WARP_LANES;
        for (unsigned n = 0; n < warps; n++) {
            unsigned first = (reversed_threads ? warps - 1 - n : n) * WARP_LANES;
            unsigned end = first + WARP_LANES < threads ? first + WARP_LANES : threads;
            moved |= run_warp(first, end);
            for (unsigned i = first; i < end; i++) {
                done += fibers[i].state == State::DONE;
                waiting += fibers[i].state == State::AT_BLOCK_BARRIER;
            }
        }
        if (done == threads) return;
        if (waiting == threads) {
            for (unsigned i = 0; i < threads; i++) fibers[i].state = State::RUNNING;
        } else if (!moved || waiting + done == threads) {
            error = waiting + done == threads ? "__syncthreads() is not reached by all threads of the block"
                                              : "a warp intrinsic waits for lanes that never arrive";
            return;  // the fibers are prepared again by the next launch
        }
    }
}
}  // namespace shim
