"""A fuzzer: real inputs of every kind that detectime reads, changed at random, through the functions that read them.

make fuzz, or: python -m tools.fuzz --help

An input is accepted, or refused by a documented error. Anything else is a failure: another error, a wrong answer, more
than 2 GB of memory, more than 10 seconds, and a process that dies. A run would survive an image whose decoder dies (the
engine starts another worker, and the frame is `failed`); the report and the notebook, which decode it too, would not.

- `material` makes the real inputs, once at the start; `kinds` lists the kinds of inputs;
- `mutate` changes bytes, `structures` changes content: both from the seed alone;
- `targets` has the functions of detectime that read each kind, and says what a right answer is;
- `worker` is the process in which they run, `watch` keeps and watches these processes;
- `session` decides what is tried next, counts, and saves what failed.
"""
