-- Erasing organizations and partners, deleting sites and devices, and taking the beginning of a log out.

-- Of which version an organization was when all of it was exported last.
ALTER TABLE organizations ADD COLUMN exported_at timestamptz, ADD COLUMN exported_version bigint;
GRANT UPDATE (exported_at, exported_version) ON organizations TO crmm_api;
-- 2: what is left of it is being erased, as with an organization.
ALTER TABLE partners DROP CONSTRAINT partners_state_check,
    ADD CONSTRAINT partners_state_check CHECK (state IN (0, 1, 2));

-- What is being erased. A row stands until nothing else is left.
CREATE TABLE erasures (
    -- The partner or the organization.
    id uuid PRIMARY KEY CHECK (id <> '00000000-0000-0000-0000-000000000000'),
    -- 1 a partner, 2 an organization
    kind smallint NOT NULL CHECK (kind IN (1, 2)),
    -- The partner that it is, or belongs to.
    partner_id uuid NOT NULL,
    name text NOT NULL,
    asked_by uuid,
    asked_at timestamptz NOT NULL DEFAULT now(),
    -- How many rows there were when it was asked for, by table, and how many are gone.
    counted jsonb NOT NULL,
    removed bigint NOT NULL DEFAULT 0
);
ALTER TABLE erasures ENABLE ROW LEVEL SECURITY;
ALTER TABLE erasures FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON erasures
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner())
           OR id = ANY ((SELECT crmm_organizations())::uuid[]));
GRANT SELECT, INSERT ON erasures TO crmm_api;

-- Which rows are the partner's or the organization's, in an order that foreign keys allow. Rows of jobs and
-- runs come before these, by their jobs; what is said of them here finds what had no job.
CREATE FUNCTION crmm_erasure_plan(target uuid, of_kind smallint)
RETURNS TABLE (step integer, name text, key text, condition text) LANGUAGE plpgsql STABLE
SET search_path = public, pg_temp AS $$
DECLARE
    own text := format(CASE of_kind WHEN 1 THEN 'partner_id = %L' ELSE 'organization_id = %L' END, target);
    -- Rows of work name an organization, also where a partner stands for one.
    tenant text := format('organization_id = %L', target);
    placed text := CASE of_kind WHEN 1 THEN own
        ELSE format('(%s OR site_id IN (SELECT s.id FROM sites s WHERE s.organization_id = %L))', own, target)
        END;
    people text := format('user_id IN (SELECT u.id FROM users u WHERE u.%s)', own);
    made text := format('role_id IN (SELECT r.id FROM roles r WHERE r.%s)', own);
BEGIN
    RETURN QUERY SELECT row_number() OVER ()::integer, p.* FROM (VALUES
        ('secret_requests', 'ctid', tenant), ('attempts', 'ctid', tenant), ('suspects', 'ctid', tenant),
        ('job_deltas', 'ctid', tenant), ('job_slots', 'ctid', tenant), ('paused_jobs', 'ctid', tenant),
        ('runs', 'ctid', tenant), ('run_output', 'run_id', tenant), ('run_history', 'id', tenant),
        ('jobs', 'ctid', tenant),
        ('queue_usage_deltas', 'ctid', tenant), ('queue_usage', 'ctid', tenant),
        ('queue_usage_checks', 'ctid', tenant), ('tasks', 'ctid', tenant),
        ('webhook_deliveries', 'ctid',
         format('(%s OR webhook_id IN (SELECT w.id FROM webhooks w WHERE w.%s))', own, own)),
        ('webhook_events', 'ctid', own), ('webhooks', 'ctid', own),
        ('oidc_links', 'ctid',
         format('(%s OR target_organization_id = %L OR %s OR %s OR provider_id IN '
                '(SELECT o.id FROM oidc_providers o WHERE o.%s))', own, target, people, made, own)),
        ('oidc_providers', 'ctid', own), ('approvals', 'ctid', placed), ('secrets', 'ctid', placed),
        ('sessions', 'ctid', people), ('user_credentials', 'ctid', people),
        ('sign_in_links', 'ctid', people),
        ('role_bindings', 'ctid', format('(%s OR %s OR %s)', placed, people, made)),
        ('api_keys', 'ctid', placed), ('roles', 'ctid', own), ('users', 'ctid', own)
    ) p
    UNION ALL
    SELECT 100, 'guards', 'ctid', own WHERE of_kind = 1
    UNION ALL
    SELECT 100 + row_number() OVER ()::integer, p.* FROM (VALUES
        ('queue_controls', 'ctid', tenant), ('run_limits', 'ctid', tenant), ('run_rates', 'ctid', tenant),
        ('enrollment_tokens', 'ctid', tenant), ('device_tags', 'ctid', tenant),
        ('certificates', 'ctid', tenant), ('devices', 'ctid', tenant), ('sites', 'ctid', tenant)
    ) p WHERE of_kind = 2;
END $$;

-- How many rows an erasure would take, by table.
CREATE FUNCTION crmm_erasure_counts(target uuid, of_kind smallint) RETURNS jsonb LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    planned record;
    n bigint;
    counts jsonb := '{}';
BEGIN
    FOR planned IN SELECT * FROM crmm_erasure_plan(target, of_kind) LOOP
        IF planned.name IN ('run_history', 'runs') THEN
            planned.condition := format(
                'job_id IN (SELECT j.id FROM jobs j WHERE j.organization_id = %L)', target);
        ELSIF planned.name = 'run_output' THEN
            planned.condition := format(
                'run_id IN (SELECT h.id FROM run_history h JOIN jobs j ON j.id = h.job_id '
                'WHERE j.organization_id = %L)', target);
        END IF;
        EXECUTE format('SELECT count(*) FROM %I WHERE %s', planned.name, planned.condition) INTO n;
        IF n > 0 THEN counts := counts || jsonb_build_object(planned.name, n); END IF;
    END LOOP;
    SELECT count(*) INTO n FROM audit_entries WHERE chain = target;
    RETURN counts || jsonb_build_object('audit_entries', n);
END $$;

-- Takes at most so many rows of one table away, and says how many; 0 when only the log is left, null while
-- somebody else is at it.
CREATE FUNCTION crmm_erase_step(target uuid, batch integer) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    erasure erasures;
    planned record;
    n bigint;
BEGIN
    SELECT * INTO erasure FROM erasures e WHERE e.id = target FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN NULL; END IF;
    IF NOT EXISTS (SELECT FROM organizations o WHERE o.id = target AND o.state = 2 AND erasure.kind = 2
                   UNION ALL
                   SELECT FROM partners p WHERE p.id = target AND p.state = 2 AND erasure.kind = 1) THEN
        RAISE EXCEPTION 'what is to be erased is in use' USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- History has no index by organization: it goes by jobs, and a job after its last run.
    WITH first AS MATERIALIZED (
        SELECT j.id FROM jobs j WHERE j.organization_id = target ORDER BY j.organization_id, j.id LIMIT 500
    ), gone AS MATERIALIZED (
        SELECT h.id FROM run_history h WHERE h.job_id = ANY (ARRAY(SELECT f.id FROM first f)) LIMIT batch
    ), open AS MATERIALIZED (
        SELECT r.id FROM runs r WHERE r.job_id = ANY (ARRAY(SELECT f.id FROM first f)) LIMIT batch
    ), output AS (
        DELETE FROM run_output x
        WHERE x.organization_id = target
          AND x.run_id = ANY (ARRAY(SELECT g.id FROM gone g UNION ALL SELECT o.id FROM open o)) RETURNING 1
    ), history AS (
        DELETE FROM run_history x
        WHERE x.organization_id = target AND x.id = ANY (ARRAY(SELECT g.id FROM gone g)) RETURNING 1
    ), runs_gone AS (
        DELETE FROM runs x
        WHERE x.organization_id = target AND x.id = ANY (ARRAY(SELECT o.id FROM open o)) RETURNING 1
    ), jobs_gone AS (
        DELETE FROM jobs x
        WHERE x.organization_id = target AND x.id = ANY (ARRAY(SELECT f.id FROM first f))
          AND NOT EXISTS (SELECT FROM gone) AND NOT EXISTS (SELECT FROM open) RETURNING 1
    )
    SELECT (SELECT count(*) FROM output) + (SELECT count(*) FROM history)
           + (SELECT count(*) FROM runs_gone) + (SELECT count(*) FROM jobs_gone) INTO n;
    IF n = 0 THEN
        FOR planned IN SELECT * FROM crmm_erasure_plan(target, erasure.kind) p ORDER BY p.step LOOP
            EXECUTE format(
                'WITH gone AS (DELETE FROM %1$I WHERE %2$I = ANY (ARRAY(SELECT %2$I FROM %1$I WHERE %3$s '
                'LIMIT %4$s)) AND %3$s RETURNING 1) SELECT count(*) FROM gone',
                planned.name, planned.key, planned.condition, batch) INTO n;
            EXIT WHEN n > 0;
        END LOOP;
    END IF;
    IF n > 0 THEN UPDATE erasures e SET removed = e.removed + n WHERE e.id = target; END IF;
    RETURN n;
END $$;

-- The beginning of a log, up to a sealed entry whose mac is said, may be taken out from now on.
CREATE FUNCTION crmm_checkpoint_audit(log uuid, up_to bigint, its_mac bytea, key text, own_mac bytea)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM audit_entries e
                   WHERE e.chain = log AND e.position = up_to AND e.mac = its_mac) THEN
        RETURN false;
    END IF;
    INSERT INTO audit_checkpoints (chain, position, mac, checkpoint_key, checkpoint_mac)
    VALUES (log, up_to, its_mac, key, own_mac)
    ON CONFLICT (chain) DO UPDATE SET position = EXCLUDED.position, mac = EXCLUDED.mac, at = now(),
        checkpoint_key = EXCLUDED.checkpoint_key, checkpoint_mac = EXCLUDED.checkpoint_mac
    WHERE audit_checkpoints.position < EXCLUDED.position;
    RETURN true;
END $$;

-- Takes out at most so many entries that a checkpoint stands for.
CREATE FUNCTION crmm_prune_audit(log uuid, batch integer) RETURNS bigint LANGUAGE sql VOLATILE
SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH gone AS (
        DELETE FROM audit_entries
        WHERE ctid = ANY (ARRAY(
            SELECT e.ctid FROM audit_entries e
            WHERE e.chain = log
              AND e.position <= (SELECT c.position FROM audit_checkpoints c WHERE c.chain = log)
            ORDER BY e.position LIMIT batch)) RETURNING 1
    )
    SELECT count(*) FROM gone
$$;

-- Ends an erasure of which nothing is left but its own row and its checkpoint, which the platform's log
-- keeps: false if there is more.
CREATE FUNCTION crmm_erase_end(target uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    erasure erasures;
    planned record;
    is_left boolean;
    checkpoint jsonb;
BEGIN
    SELECT * INTO erasure FROM erasures e WHERE e.id = target FOR UPDATE SKIP LOCKED;
    IF NOT FOUND OR EXISTS (SELECT FROM audit_entries a WHERE a.chain = target) THEN RETURN false; END IF;
    IF erasure.kind = 1 AND EXISTS (SELECT FROM organizations o WHERE o.partner_id = target) THEN
        RETURN false;
    END IF;
    FOR planned IN SELECT * FROM crmm_erasure_plan(target, erasure.kind) LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE %s)', planned.name, planned.condition)
            INTO is_left;
        IF is_left THEN RETURN false; END IF;
    END LOOP;
    SELECT jsonb_build_object('position', c.position, 'mac', encode(c.mac, 'hex'),
                              'checkpointKey', c.checkpoint_key,
                              'checkpointMac', encode(c.checkpoint_mac, 'hex'))
    INTO checkpoint FROM audit_checkpoints c WHERE c.chain = target;
    DELETE FROM audit_checkpoints c WHERE c.chain = target;
    IF erasure.kind = 1 THEN
        DELETE FROM partners p WHERE p.id = target;
    ELSE
        DELETE FROM organizations o WHERE o.id = target;
    END IF;
    PERFORM crmm_write_audit(
        NULL, NULL, CASE erasure.kind WHEN 1 THEN 'partners.erased' ELSE 'organizations.erased' END, target,
        0::smallint, (to_jsonb(erasure) - ARRAY['kind'])::text, checkpoint::text);
    DELETE FROM erasures e WHERE e.id = target;
    RETURN true;
END $$;

-- Deletes a site that is archived, has no device and lets nobody in: false if there is anything.
CREATE FUNCTION crmm_delete_site(target uuid, its_version bigint) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM FROM sites s WHERE s.id = target AND s.state = 1 AND s.version = its_version FOR UPDATE;
    IF NOT FOUND OR EXISTS (SELECT FROM devices d JOIN sites s ON s.id = target
                            WHERE d.organization_id = s.organization_id AND d.site_id = target)
        OR EXISTS (SELECT FROM api_keys k WHERE k.site_id = target AND k.revoked_at IS NULL)
        OR EXISTS (SELECT FROM role_bindings b WHERE b.site_id = target)
    THEN
        RETURN false;
    END IF;
    DELETE FROM enrollment_tokens t WHERE t.site_id = target;
    DELETE FROM secrets x WHERE x.site_id = target;
    DELETE FROM approvals x WHERE x.site_id = target;
    DELETE FROM api_keys x WHERE x.site_id = target;
    DELETE FROM sites s WHERE s.id = target;
    RETURN true;
END $$;

-- Deletes a device that is archived and has no open run: false if there is one. What its runs brought stays
-- with their jobs.
CREATE FUNCTION crmm_delete_device(tenant uuid, target uuid, its_version bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    scope text := current_setting('crmm.scope', true);
BEGIN
    PERFORM FROM devices d
    WHERE d.organization_id = tenant AND d.id = target AND d.state = 2 AND d.version = its_version FOR UPDATE;
    IF NOT FOUND OR EXISTS (SELECT FROM runs r WHERE r.organization_id = tenant AND r.device_id = target)
    THEN
        RETURN false;
    END IF;
    -- A site's scope, which has the device, sees none of its certificates.
    PERFORM set_config('crmm.scope', 'platform', true);
    DELETE FROM secret_requests x WHERE x.organization_id = tenant AND x.device_id = target;
    DELETE FROM device_tags x WHERE x.organization_id = tenant AND x.device_id = target;
    DELETE FROM certificates x WHERE x.organization_id = tenant AND x.device_id = target;
    DELETE FROM devices x WHERE x.organization_id = tenant AND x.id = target;
    PERFORM set_config('crmm.scope', scope, true);
    RETURN true;
END $$;

REVOKE ALL ON FUNCTION crmm_erasure_plan(uuid, smallint), crmm_erasure_counts(uuid, smallint),
    crmm_erase_step(uuid, integer), crmm_checkpoint_audit(uuid, bigint, bytea, text, bytea),
    crmm_prune_audit(uuid, integer), crmm_erase_end(uuid), crmm_delete_site(uuid, bigint),
    crmm_delete_device(uuid, uuid, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crmm_erasure_counts(uuid, smallint),
    crmm_erase_step(uuid, integer), crmm_checkpoint_audit(uuid, bigint, bytea, text, bytea),
    crmm_prune_audit(uuid, integer), crmm_erase_end(uuid), crmm_delete_site(uuid, bigint),
    crmm_delete_device(uuid, uuid, bigint) TO crmm_api;

-- What is being erased gets no more entries: the log of it goes too. That it is erased stands in the
-- platform's log.
CREATE OR REPLACE FUNCTION crmm_write_audit(
    organization uuid, partner uuid, action text, subject uuid, outcome smallint, before text, after text
) RETURNS void LANGUAGE sql VOLATILE AS $$
    -- crmm.actor: kind, id, id of the request and address, one blank between them, '-' for what is not known.
    INSERT INTO audit_entries (chain, id, organization_id, partner_id, at, actor_kind, actor_id, request_id,
                               address, action, subject_id, outcome, before, after)
    SELECT coalesce(organization, partner, '00000000-0000-0000-0000-000000000000'), crmm_uuid7(),
           organization, partner, clock_timestamp(),
           CASE split_part(a.actor, ' ', 1) WHEN 'key' THEN 1 WHEN 'user' THEN 2 WHEN 'nobody' THEN 3
               ELSE CASE WHEN session_user LIKE 'crmm\_%' THEN 0 ELSE 4 END END,
           nullif(split_part(a.actor, ' ', 2), '-')::uuid, nullif(split_part(a.actor, ' ', 3), '-')::uuid,
           nullif(split_part(a.actor, ' ', 4), '-'), action, subject, outcome, before, after
    FROM (SELECT coalesce(nullif(current_setting('crmm.actor', true), ''), '- - - -') AS actor) a
    WHERE NOT EXISTS (SELECT FROM erasures e WHERE e.id = coalesce(organization, partner))
$$;

CREATE FUNCTION crmm_audit_erasure() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM crmm_write_audit(
        NULL, NULL, CASE NEW.kind WHEN 1 THEN 'partners.erase' ELSE 'organizations.erase' END, NEW.id,
        0::smallint, (to_jsonb(NEW) - ARRAY['kind'])::text, NULL);
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT ON erasures FOR EACH ROW EXECUTE FUNCTION crmm_audit_erasure();
