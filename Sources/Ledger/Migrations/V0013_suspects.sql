-- Runs whose dispatcher died between their mark and their gateway.

-- It is queued again in the next generation, whose entry in Redis knows of no crash. Only whoever takes it
-- alone may mark it.
ALTER TABLE runs ADD COLUMN suspect boolean NOT NULL DEFAULT false;
GRANT UPDATE (suspect) ON runs TO crmm_worker;
