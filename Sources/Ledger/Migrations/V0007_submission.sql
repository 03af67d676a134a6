-- What callers do to jobs that are committed: pauses of single jobs.

-- A paused job keeps its runs where they are: the mark wants state 1. Whoever ends its last run completes it.
GRANT UPDATE (state) ON jobs TO crmm_api;
