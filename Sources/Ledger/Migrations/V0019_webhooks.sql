-- Webhooks: who is told of what happens, the events, and how their deliveries went.

-- A subscription of the platform (neither id), a partner or an organization. It hears of what happens to its
-- owner and below.
CREATE TABLE webhooks (
    id uuid PRIMARY KEY,
    partner_id uuid REFERENCES partners (id),
    organization_id uuid REFERENCES organizations (id),
    -- Whose it is, zeros for the platform; a delivery's task stands under this id.
    owner uuid NOT NULL GENERATED ALWAYS AS
        (coalesce(organization_id, partner_id, '00000000-0000-0000-0000-000000000000'::uuid)) STORED,
    url text NOT NULL CHECK (octet_length(url) BETWEEN 1 AND 2048),
    description text NOT NULL CHECK (octet_length(description) <= 200),
    events text[] NOT NULL CHECK (cardinality(events) BETWEEN 1 AND 64),
    -- The secret that signs, sealed with a key outside PostgreSQL, and after it the one before, which signs
    -- too until previous_expires_at. The version is the first one's; the other's is one less.
    sealed bytea[] NOT NULL CHECK (cardinality(sealed) BETWEEN 1 AND 2),
    secret_version bigint NOT NULL DEFAULT 1,
    previous_expires_at timestamptz,
    -- 0 active, 1 disabled by people, 2 disabled after failures (Domain.WebhookState)
    state smallint NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 2),
    disabled_reason text CHECK (octet_length(disabled_reason) BETWEEN 1 AND 64),
    disabled_at timestamptz,
    -- Deliveries in a row that were given up, and since when no attempt has succeeded.
    failures integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    version bigint NOT NULL DEFAULT 1,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (partner_id IS NULL OR organization_id IS NULL)
);
CREATE INDEX webhooks_active ON webhooks (owner) WHERE state = 0;
CREATE INDEX webhooks_by_owner ON webhooks (owner, id) WHERE owner IS NOT NULL;

-- What has happened, written in the transaction of the change and only where somebody listens. An outbox:
-- whoever spreads an event over its webhooks sets spread, and it is kept for what is delivered again.
CREATE TABLE webhook_events (
    id uuid PRIMARY KEY,
    -- Where: an organization with its partner, a partner, or (neither) the platform.
    organization_id uuid,
    partner_id uuid,
    type text NOT NULL CHECK (octet_length(type) BETWEEN 1 AND 64),
    subject_id uuid NOT NULL,
    -- The member `data` of what is sent, as JSON that nobody looks into here.
    payload text NOT NULL CHECK (octet_length(payload) <= 65536),
    at timestamptz NOT NULL,
    spread boolean NOT NULL DEFAULT false
);
CREATE INDEX webhook_events_open ON webhook_events (id) WHERE NOT spread;

-- An event for a webhook: the log, one row a pair however often it is tried.
CREATE TABLE webhook_deliveries (
    id uuid PRIMARY KEY,
    -- The webhook's owner.
    organization_id uuid,
    partner_id uuid,
    webhook_id uuid NOT NULL,
    event_id uuid NOT NULL,
    type text NOT NULL,
    -- 0 pending, 1 delivered, 2 given up, 3 dropped since the webhook was disabled
    -- (Domain.WebhookDeliveryState)
    state smallint NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 3),
    -- The task that has it, and how often somebody had it delivered again.
    task_id uuid NOT NULL,
    repeats integer NOT NULL DEFAULT 0,
    -- Attempts of all, and those that failed since it was first delivered or delivered again.
    attempts integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    -- Of the last attempt: the status or, if there was none, why; how long it took, and when it ended.
    status_code integer,
    error text CHECK (octet_length(error) BETWEEN 1 AND 64),
    latency_milliseconds integer,
    attempted_at timestamptz,
    -- When it is tried next, if it is.
    next_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (webhook_id, event_id)
);
CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (webhook_id, id)
    WHERE webhook_id IS NOT NULL;
CREATE INDEX webhook_deliveries_by_organization ON webhook_deliveries (organization_id, id)
    WHERE organization_id IS NOT NULL;

ALTER TABLE webhooks ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhooks FORCE ROW LEVEL SECURITY;
ALTER TABLE webhook_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_events FORCE ROW LEVEL SECURITY;
ALTER TABLE webhook_deliveries ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_deliveries FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON webhooks
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner())
           OR organization_id = ANY ((SELECT crmm_organizations())::uuid[]));
-- Events are read and written by the platform alone, whoever's change one tells of.
CREATE POLICY platform ON webhook_events USING ((SELECT crmm_is_platform()));
CREATE POLICY tenant ON webhook_deliveries
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner())
           OR organization_id = ANY ((SELECT crmm_organizations())::uuid[]));

GRANT SELECT, INSERT, DELETE ON webhooks TO crmm_api;
GRANT UPDATE (url, description, events, sealed, secret_version, previous_expires_at, state, disabled_reason,
              disabled_at, failures, failing_since, version, updated_at)
    ON webhooks TO crmm_api;
GRANT SELECT, INSERT, UPDATE (spread) ON webhook_events TO crmm_api;
GRANT SELECT, INSERT, DELETE ON webhook_deliveries TO crmm_api;
GRANT UPDATE (state, task_id, repeats, attempts, failures, status_code, error, latency_milliseconds,
              attempted_at, next_at)
    ON webhook_deliveries TO crmm_api;
GRANT SELECT (id), DELETE ON webhook_events TO crmm_worker;
GRANT SELECT (id, organization_id, partner_id), DELETE ON webhook_deliveries TO crmm_worker;

-- The role api delivers, since only it has the key of the secrets: it works on tasks as a worker does.
GRANT UPDATE (generation, attempt, token, worker_id, failures, queued_at, started_at, deadline) ON tasks
    TO crmm_api;
-- A task of a partner's webhook stands under the partner's id, one of the platform's under zeros.
ALTER POLICY tenant ON tasks
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform())
           OR organization_id = (SELECT crmm_partner()));

-- Whether an active webhook listens to what happens there. For callers in the platform's scope.
CREATE FUNCTION crmm_is_heard(kind text, organization uuid, partner uuid) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM webhooks w
        WHERE w.state = 0
          AND w.owner = ANY (ARRAY[organization, partner, '00000000-0000-0000-0000-000000000000'::uuid])
          AND kind = ANY (w.events));
END $$;
REVOKE ALL ON FUNCTION crmm_is_heard(text, uuid, uuid) FROM PUBLIC;

CREATE FUNCTION crmm_utc(moment timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- Writes the event of a job's end. These functions run as the owner and look with the platform's scope, which
-- is put back: who makes a change need not see who listens to it.
CREATE FUNCTION crmm_job_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE
    scope text := coalesce(current_setting('crmm.scope', true), '');
    partner uuid;
BEGIN
    PERFORM set_config('crmm.scope', 'platform', true);
    partner := (SELECT o.partner_id FROM organizations o WHERE o.id = NEW.organization_id);
    IF crmm_is_heard('job.ended', NEW.organization_id, partner) THEN
        INSERT INTO webhook_events (id, organization_id, partner_id, type, subject_id, at, payload)
        VALUES (crmm_uuid7(), NEW.organization_id, partner, 'job.ended', NEW.id, clock_timestamp(),
                json_build_object(
                    'id', NEW.id, 'kind', NEW.kind, 'siteId', NEW.site_id,
                    'state', CASE NEW.state WHEN 10 THEN 'completed' ELSE 'cancelled' END,
                    'total', NEW.total,
                    'counts', json_build_object(
                        'succeeded', NEW.ended[1], 'failed', NEW.ended[2], 'timedOut', NEW.ended[3],
                        'cancelled', NEW.ended[4], 'expired', NEW.ended[5], 'unknown', NEW.ended[6]),
                    'createdAt', crmm_utc(NEW.created_at),
                    'finishedAt', crmm_utc(coalesce(NEW.finished_at, now())))::text);
    END IF;
    PERFORM set_config('crmm.scope', scope, true);
    RETURN NULL;
END $$;

-- Writes the event of any other change; the trigger's argument is the noun of its type.
CREATE FUNCTION crmm_tenancy_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE
    scope text := coalesce(current_setting('crmm.scope', true), '');
    noun text := TG_ARGV[0];
    shown jsonb := crmm_shown(to_jsonb(NEW));
    organization uuid := CASE noun WHEN 'organization' THEN NEW.id ELSE (shown->>'organization_id')::uuid END;
    partner uuid := CASE noun WHEN 'partner' THEN NEW.id ELSE (shown->>'partner_id')::uuid END;
    state integer := (shown->>'state')::integer;
    kind text;
    words text[];
    data json;
BEGIN
    PERFORM set_config('crmm.scope', 'platform', true);
    IF organization IS NOT NULL AND partner IS NULL THEN
        partner := (SELECT o.partner_id FROM organizations o WHERE o.id = organization);
    END IF;
    kind := noun || CASE
        WHEN noun = 'webhook' OR (noun = 'user' AND TG_OP = 'UPDATE') THEN '.disabled'
        WHEN noun = 'device' AND TG_OP = 'INSERT' THEN '.enrolled'
        WHEN TG_OP = 'INSERT' THEN '.created'
        WHEN state = CASE noun WHEN 'device' THEN 2 ELSE 1 END
             AND (to_jsonb(OLD)->>'state')::integer <> state THEN '.archived'
        ELSE '.updated' END;
    IF crmm_is_heard(kind, organization, partner) THEN
        words := CASE noun WHEN 'device' THEN ARRAY['active', 'suspended', 'archived']
                           WHEN 'user' THEN ARRAY['invited', 'active', 'disabled']
                           WHEN 'webhook' THEN ARRAY['active', 'disabled', 'failed']
                           ELSE ARRAY['active', 'archived'] END;
        data := CASE noun
            WHEN 'device' THEN json_build_object(
                'id', NEW.id, 'siteId', shown->>'site_id', 'hostname', shown->>'hostname',
                'displayName', shown->>'display_name', 'platform', shown->>'platform',
                'agentVersion', shown->>'agent_version', 'state', words[state + 1])
            WHEN 'user' THEN json_build_object(
                'id', NEW.id, 'email', shown->>'email', 'name', shown->>'name', 'state', words[state + 1])
            -- Not its URL, in which receivers hide secrets.
            WHEN 'webhook' THEN json_build_object(
                'id', NEW.id, 'description', shown->>'description', 'state', words[state + 1],
                'reason', shown->>'disabled_reason')
            ELSE json_build_object('id', NEW.id, 'name', shown->>'name', 'state', words[state + 1])
            END;
        INSERT INTO webhook_events (id, organization_id, partner_id, type, subject_id, at, payload)
        VALUES (crmm_uuid7(), organization, partner, kind, NEW.id, clock_timestamp(), data::text);
    END IF;
    PERFORM set_config('crmm.scope', scope, true);
    RETURN NULL;
END $$;

CREATE TRIGGER webhook_event AFTER UPDATE OF state ON jobs
    FOR EACH ROW WHEN (OLD.state < 10 AND NEW.state >= 10) EXECUTE FUNCTION crmm_job_event();
CREATE TRIGGER webhook_event_made AFTER INSERT ON jobs
    FOR EACH ROW WHEN (NEW.state >= 10) EXECUTE FUNCTION crmm_job_event();
CREATE TRIGGER webhook_event_made AFTER INSERT ON devices
    FOR EACH ROW EXECUTE FUNCTION crmm_tenancy_event('device');
-- Not what agents say of themselves at each hello.
CREATE TRIGGER webhook_event AFTER UPDATE OF version, state, site_id, organization_id ON devices
    FOR EACH ROW EXECUTE FUNCTION crmm_tenancy_event('device');
CREATE TRIGGER webhook_event AFTER INSERT OR UPDATE OF version ON partners
    FOR EACH ROW EXECUTE FUNCTION crmm_tenancy_event('partner');
CREATE TRIGGER webhook_event AFTER INSERT OR UPDATE OF version ON organizations
    FOR EACH ROW EXECUTE FUNCTION crmm_tenancy_event('organization');
CREATE TRIGGER webhook_event AFTER INSERT OR UPDATE OF version ON sites
    FOR EACH ROW EXECUTE FUNCTION crmm_tenancy_event('site');
CREATE TRIGGER webhook_event_made AFTER INSERT ON users
    FOR EACH ROW EXECUTE FUNCTION crmm_tenancy_event('user');
CREATE TRIGGER webhook_event AFTER UPDATE OF state ON users
    FOR EACH ROW WHEN (OLD.state <> 2 AND NEW.state = 2) EXECUTE FUNCTION crmm_tenancy_event('user');
CREATE TRIGGER webhook_event AFTER UPDATE OF state ON webhooks
    FOR EACH ROW WHEN (OLD.state = 0 AND NEW.state <> 0) EXECUTE FUNCTION crmm_tenancy_event('webhook');

-- Not what deliveries count.
CREATE TRIGGER audit AFTER INSERT OR DELETE
    OR UPDATE OF url, description, events, sealed, state ON webhooks
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
