-- Folds take their jobs and organizations together: what a statement costs is paid once a call, and not for
-- each of ten thousand jobs that have a run or two.
--
-- As before, each function first locks the rows that are free and then reads their deltas by a statement with
-- a snapshot of its own. Rows are reached by their keys, or by where they are, whatever the statistics say of
-- tables that are empty at one moment, when a scan of all of one costs nothing, and full at the next.

CREATE OR REPLACE FUNCTION crmm_fold_usage(organizations_max integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    tenants uuid[];
BEGIN
    WITH RECURSIVE waiting AS (
        (SELECT organization_id FROM queue_usage_deltas ORDER BY organization_id LIMIT 1)
        UNION ALL
        SELECT n.organization_id FROM waiting w
        CROSS JOIN LATERAL (
            SELECT d.organization_id FROM queue_usage_deltas d
            WHERE d.organization_id > w.organization_id ORDER BY d.organization_id LIMIT 1
        ) n
    )
    SELECT array_agg(w.organization_id) INTO tenants
    FROM (SELECT organization_id FROM waiting LIMIT organizations_max) w;
    IF tenants IS NULL THEN RETURN 0; END IF;

    -- Folders make rows in the order of organizations.
    INSERT INTO queue_usage (organization_id)
    SELECT t FROM unnest(tenants) AS t
    WHERE (SELECT true FROM queue_usage u WHERE u.organization_id = t) IS NULL
    ORDER BY t
    ON CONFLICT DO NOTHING;

    SELECT array_agg(u.organization_id) INTO tenants
    FROM unnest(tenants) AS t
    CROSS JOIN LATERAL (
        SELECT * FROM queue_usage u WHERE u.organization_id = t OFFSET 0 FOR UPDATE SKIP LOCKED
    ) u;

    WITH gone AS (
        DELETE FROM queue_usage_deltas WHERE ctid = ANY (ARRAY(
            SELECT d.ctid FROM unnest(tenants) AS t
            CROSS JOIN LATERAL (
                SELECT d.ctid FROM queue_usage_deltas d WHERE d.organization_id = t OFFSET 0
            ) d
        ))
        RETURNING organization_id, runs, bytes
    ), summed AS MATERIALIZED (
        SELECT u.place, g.runs, g.bytes FROM (
            SELECT organization_id, sum(runs)::bigint AS runs, sum(bytes)::bigint AS bytes
            FROM gone GROUP BY 1
        ) g
        CROSS JOIN LATERAL (
            SELECT u.ctid AS place FROM queue_usage u WHERE u.organization_id = g.organization_id OFFSET 0
        ) u
    )
    UPDATE queue_usage u SET runs = u.runs + s.runs, bytes = u.bytes + s.bytes
    FROM summed s WHERE u.ctid = s.place;
    RETURN coalesce(cardinality(tenants), 0);
END $$;

CREATE OR REPLACE FUNCTION crmm_fold(jobs_max integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    organizations uuid[];
    ids uuid[];
    folded integer := 0;
    tenants integer;
BEGIN
    WITH RECURSIVE waiting AS (
        (SELECT organization_id, job_id FROM job_deltas ORDER BY organization_id, job_id LIMIT 1)
        UNION ALL
        SELECT n.organization_id, n.job_id FROM waiting w
        CROSS JOIN LATERAL (
            SELECT d.organization_id, d.job_id FROM job_deltas d
            WHERE (d.organization_id, d.job_id) > (w.organization_id, w.job_id)
            ORDER BY d.organization_id, d.job_id LIMIT 1
        ) n
    ), locked AS (
        -- In (organization, id) order, one probe a job; no more are looked for than are locked.
        SELECT j.organization_id, j.id FROM waiting w
        CROSS JOIN LATERAL (
            SELECT * FROM jobs j WHERE j.organization_id = w.organization_id AND j.id = w.job_id
            OFFSET 0 FOR UPDATE SKIP LOCKED
        ) j
        LIMIT jobs_max
    )
    SELECT array_agg(l.organization_id), array_agg(l.id) INTO organizations, ids FROM locked l;

    IF ids IS NOT NULL THEN
        WITH gone AS (
            DELETE FROM job_deltas WHERE ctid = ANY (ARRAY(
                SELECT d.ctid FROM unnest(organizations, ids) AS l (organization_id, job_id)
                CROSS JOIN LATERAL (
                    SELECT d.ctid FROM job_deltas d
                    WHERE d.organization_id = l.organization_id AND d.job_id = l.job_id OFFSET 0
                ) d
            ))
            RETURNING organization_id, job_id, outcome, n
        ), added AS (
            -- Of outcome 0 are attempts that another followed.
            SELECT organization_id, job_id,
                   coalesce(sum(n) FILTER (WHERE outcome = 0), 0)::integer AS retried,
                   coalesce(sum(n) FILTER (WHERE outcome <> 0), 0) AS runs,
                   ARRAY[sum(n) FILTER (WHERE outcome = 10), sum(n) FILTER (WHERE outcome = 11),
                         sum(n) FILTER (WHERE outcome = 12), sum(n) FILTER (WHERE outcome = 13),
                         sum(n) FILTER (WHERE outcome = 14), sum(n) FILTER (WHERE outcome = 15)] AS ended
            FROM gone GROUP BY 1, 2
        ), summed AS MATERIALIZED (
            SELECT j.place, a.retried, a.runs, j.state,
                   octet_length(j.statement) + coalesce(octet_length(j.target_devices), 0) AS bytes,
                   (SELECT array_agg(e.n + coalesce(e.more, 0) ORDER BY e.place)
                    FROM unnest(j.ended, a.ended) WITH ORDINALITY AS e(n, more, place))::integer[] AS ended,
                   (SELECT sum(n) FROM unnest(j.ended) AS n) + a.runs = j.total AS is_whole
            FROM added a
            CROSS JOIN LATERAL (
                SELECT j.ctid AS place, * FROM jobs j
                WHERE j.organization_id = a.organization_id AND j.id = a.job_id OFFSET 0
            ) j
        ), changed AS (
            UPDATE jobs j SET ended = s.ended, retried = j.retried + s.retried,
                   state = CASE WHEN s.is_whole
                                THEN CASE WHEN j.cancel_requested_at IS NULL THEN 10 ELSE 11 END
                                ELSE j.state END,
                   finished_at = CASE WHEN s.is_whole THEN coalesce(j.finished_at, now())
                                      ELSE j.finished_at END
            FROM summed s WHERE j.ctid = s.place
            -- A job whose counters are amended had ended before.
            RETURNING j.organization_id, s.runs,
                      CASE WHEN s.state < 10 AND j.state >= 10 THEN s.bytes ELSE 0 END AS bytes
        ), freed AS (
            -- What the jobs' runs and ended jobs free is told to the use of their organizations.
            INSERT INTO queue_usage_deltas (organization_id, runs, bytes)
            SELECT organization_id, -sum(runs), -sum(bytes) FROM changed
            GROUP BY 1 HAVING sum(runs) <> 0 OR sum(bytes) <> 0
        )
        SELECT count(*) INTO folded FROM changed;
    END IF;

    tenants := crmm_fold_usage(jobs_max);
    -- More wait: whoever folds goes on at once.
    IF tenants >= jobs_max THEN RETURN greatest(folded, tenants); END IF;
    RETURN folded;
END $$;
