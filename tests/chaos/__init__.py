"""The proof that no lesson is lost and none is written twice: `make chaos`, and a short version in `make test`.

Three parts, each a pure plan (what is done, what must come of it) beside the code that carries it out:

| part | plan | execution | question |
|---|---|---|---|
| storm | `storm_plan` | `storm` | Do jobs survive kills, restarts, network faults, doubles, lost leases? |
| hostile | `hostile_plan` | `hostile` | Does the worker survive whatever is put on the queue? |
| audio | `audio_plan` | `audio` | Does each odd file end as its row of the table says? |

All three run the real worker against the real emulator and the real MariaDB (`stage`). Only the storm puts a
fake engine into it (`planted`), for all but ten of its jobs.
"""
