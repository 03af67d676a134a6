-- Scope, roles, tenancy, devices, enrolment, certificates, API keys.
--
-- Every table below has forced row-level security. One setting, crmm.scope, says what a transaction sees:
--   platform | partner:UUID | organizations:{UUID,…} | site:UUID
-- Anything else, and nothing, sees nothing. Policies read it in scalar subqueries, so it is judged once a
-- statement.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['crmm_api', 'crmm_worker', 'crmm_gateway'] LOOP
        -- Roles belong to the whole server: two databases may be migrated at the same time.
        PERFORM pg_advisory_xact_lock(hashtext('crmm roles'));
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            BEGIN
                EXECUTE format(
                    'CREATE ROLE %I LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOINHERIT', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
    FOREACH name IN ARRAY ARRAY['crmm_api', 'crmm_worker', 'crmm_gateway'] LOOP
        -- Every hot statement goes by keys. A generic plan made while a table is empty must not be a scan
        -- that stays when it has grown, and what such settings cost on paper must not start the compiler.
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET enable_seqscan = off', name, current_database());
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET enable_hashjoin = off', name, current_database());
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET enable_mergejoin = off', name, current_database());
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET jit = off', name, current_database());
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO crmm_api, crmm_worker, crmm_gateway', current_database());
END $$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO crmm_api, crmm_worker, crmm_gateway;

-- Sets the password of one of the services' logins; only the owner may call it.
CREATE FUNCTION crmm_set_password(login text, password text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF login NOT IN ('crmm_api', 'crmm_worker', 'crmm_gateway') THEN
        RAISE EXCEPTION 'no login of a service is named %', login;
    END IF;
    EXECUTE format('ALTER ROLE %I PASSWORD %L', login, password);
END $$;
REVOKE ALL ON FUNCTION crmm_set_password(text, text) FROM PUBLIC;

CREATE FUNCTION crmm_scope() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT nullif(current_setting('crmm.scope', true), '')
$$;

CREATE FUNCTION crmm_is_platform() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(crmm_scope() = 'platform', false)
$$;

-- The partner of a partner's scope, otherwise NULL.
CREATE FUNCTION crmm_partner() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN crmm_scope() ~ '^partner:[0-9a-f-]{36}$' THEN substr(crmm_scope(), 9)::uuid END
$$;

-- The site of a site's scope, otherwise NULL.
CREATE FUNCTION crmm_site() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN crmm_scope() ~ '^site:[0-9a-f-]{36}$' THEN substr(crmm_scope(), 6)::uuid END
$$;

-- The organizations that a scope lists, otherwise none.
CREATE FUNCTION crmm_listed_organizations() RETURNS uuid[] LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN crmm_scope() ~ '^organizations:\{[0-9a-f,-]*\}$' THEN substr(crmm_scope(), 15)::uuid[]
                ELSE '{}'::uuid[] END
$$;

CREATE TABLE deployment (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Where a partner, an organization, a site or a device belongs grants power to whoever is above it: mac
-- covers the table, the row's id, mac_key and the ids of its parents.
CREATE TABLE partners (
    id uuid PRIMARY KEY,
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE organizations (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners (id),
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    weight double precision NOT NULL DEFAULT 1 CHECK (weight > 0),
    running_cap integer CHECK (running_cap > 0),
    paused boolean NOT NULL DEFAULT false,
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- This index and others are partial by what only a condition on their first column implies, or on the one
-- that only they have: else one could be walked from end to end for an id.
CREATE INDEX organizations_by_partner ON organizations (partner_id, id) WHERE partner_id IS NOT NULL;

CREATE TABLE sites (
    organization_id uuid NOT NULL REFERENCES organizations (id),
    id uuid NOT NULL,
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    UNIQUE (id)
);

-- The organizations that the present scope sees as a whole; a site's scope sees none as a whole.
CREATE FUNCTION crmm_organizations() RETURNS uuid[] LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    IF crmm_partner() IS NOT NULL THEN
        RETURN (SELECT coalesce(array_agg(id), '{}') FROM organizations WHERE partner_id = crmm_partner());
    END IF;
    RETURN crmm_listed_organizations();
END $$;

CREATE TABLE devices (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    site_id uuid NOT NULL,
    hostname text NOT NULL CHECK (octet_length(hostname) <= 255),
    platform text NOT NULL CHECK (octet_length(platform) <= 64),
    agent_version text NOT NULL CHECK (octet_length(agent_version) <= 64),
    machine_id text CHECK (octet_length(machine_id) <= 128),
    key_hash bytea NOT NULL CHECK (octet_length(key_hash) = 32),
    assignment bytea NOT NULL,
    assignment_version integer NOT NULL,
    -- 0 active, 1 suspended
    state smallint NOT NULL DEFAULT 0,
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    -- How far the journal was by the last word, and how often it was restored from a copy: a position counts
    -- within one copy.
    journal_position bigint NOT NULL DEFAULT 0,
    journal_copy integer NOT NULL DEFAULT 0,
    last_seen_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, site_id) REFERENCES sites (organization_id, id)
);
CREATE INDEX devices_by_site ON devices (organization_id, site_id, id) WHERE site_id IS NOT NULL;
CREATE UNIQUE INDEX devices_by_id ON devices (id);

CREATE TABLE certificates (
    organization_id uuid NOT NULL,
    device_id uuid NOT NULL,
    serial text NOT NULL,
    key_hash bytea NOT NULL,
    not_after timestamptz NOT NULL,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, serial),
    FOREIGN KEY (organization_id, device_id) REFERENCES devices (organization_id, id)
);

CREATE TABLE enrollment_tokens (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    site_id uuid NOT NULL,
    token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    expires_at timestamptz NOT NULL,
    uses_max integer NOT NULL CHECK (uses_max > 0),
    uses integer NOT NULL DEFAULT 0,
    revoked_at timestamptz,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CHECK (uses <= uses_max),
    FOREIGN KEY (organization_id, site_id) REFERENCES sites (organization_id, id)
);

-- A row grants power: mac covers every column that says what, to whom and until when.
CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    partner_id uuid,
    organization_id uuid,
    site_id uuid,
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    key_hash bytea NOT NULL UNIQUE CHECK (octet_length(key_hash) = 32),
    permissions text[] NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Row-level security. A table may be touched by a service only through a policy; the catalog test holds this.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['deployment', 'partners', 'organizations', 'sites', 'devices', 'certificates',
                                'enrollment_tokens', 'api_keys'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    END LOOP;
END $$;

CREATE POLICY everyone ON deployment USING (true);
CREATE POLICY tenant ON partners
    USING ((SELECT crmm_is_platform()) OR id = (SELECT crmm_partner()));
CREATE POLICY tenant ON organizations
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner())
           OR id = ANY ((SELECT crmm_listed_organizations())::uuid[]));
CREATE POLICY tenant ON sites
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform())
           OR id = (SELECT crmm_site()));
CREATE POLICY tenant ON devices
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform())
           OR site_id = (SELECT crmm_site()));
CREATE POLICY tenant ON certificates
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform()));
CREATE POLICY tenant ON enrollment_tokens
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform())
           OR site_id = (SELECT crmm_site()));
CREATE POLICY tenant ON api_keys
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner())
           OR organization_id = ANY ((SELECT crmm_organizations())::uuid[])
           OR site_id = (SELECT crmm_site()));

GRANT SELECT ON deployment TO crmm_api, crmm_worker, crmm_gateway;
GRANT INSERT ON deployment TO crmm_api;
GRANT SELECT, INSERT ON partners, organizations, sites TO crmm_api;
GRANT SELECT, INSERT, UPDATE ON devices, enrollment_tokens, certificates, api_keys TO crmm_api;
GRANT SELECT ON organizations, sites, devices TO crmm_worker;
GRANT SELECT ON devices, certificates TO crmm_gateway;
GRANT UPDATE (hostname, platform, agent_version, journal_position, journal_copy, last_seen_at) ON devices
    TO crmm_gateway;
