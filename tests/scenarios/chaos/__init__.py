"""The proof that no lesson is lost and none is written twice: `make chaos`, and a short version in `make test`.

Three parts, each a pure plan (what is done, what must come of it) beside the code that carries it out:

| part | plan | execution | question |
|---|---|---|---|
| storm | `storm_plan` | `storm` | Do jobs survive kills, restarts, network faults, doubles, lost leases? |
| hostile | `hostile_plan` | `hostile` | Does the worker survive whatever is put on the queue? |
| audio | `audio_plan` | `audio` | Does each odd file end as its row of the table says? |

The seed decides the plan: which jobs, messages, blows and weather, in which order. When exactly a blow meets a
job is the machine's own chance, so a seed that found something is worth running more than once.

All three run the real worker against the real emulator and the real MariaDB (`stage`). Only the storm puts a
fake engine into it (`planted`), for all but ten of its jobs.
"""
