-- Who may do what: people, roles, what they are bound to, and what was revoked.

-- All rows here grant power: mac covers the table, the id, mac_key and every column that says who, what,
-- where and until when. A row that has expired grants nothing; the API renews those in use.

-- A person who signs in here. At home at one level: the platform (neither id), a partner or an organization.
CREATE TABLE users (
    id uuid PRIMARY KEY,
    partner_id uuid REFERENCES partners (id),
    organization_id uuid REFERENCES organizations (id),
    email text NOT NULL CHECK (octet_length(email) BETWEEN 3 AND 254),
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    -- 0 invited, 1 active, 2 disabled (Domain.UserState)
    state smallint NOT NULL CHECK (state BETWEEN 0 AND 2),
    expires_at timestamptz NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (partner_id IS NULL OR organization_id IS NULL),
    -- By home, so that nobody learns who has an account elsewhere.
    UNIQUE NULLS NOT DISTINCT (partner_id, organization_id, email)
);
CREATE INDEX users_by_email ON users (email) WHERE email IS NOT NULL;

-- A set of permissions with a name, beside those that are built in.
CREATE TABLE roles (
    id uuid PRIMARY KEY,
    partner_id uuid REFERENCES partners (id),
    organization_id uuid REFERENCES organizations (id),
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    permissions text[] NOT NULL,
    expires_at timestamptz NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (partner_id IS NULL OR organization_id IS NULL),
    UNIQUE NULLS NOT DISTINCT (partner_id, organization_id, name)
);

-- A role of a person on a level: at most one of the three ids, none is the platform. The role is one that is
-- built in, by its name, or one of the table.
CREATE TABLE role_bindings (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id),
    partner_id uuid REFERENCES partners (id),
    organization_id uuid REFERENCES organizations (id),
    site_id uuid REFERENCES sites (id),
    builtin text CHECK (octet_length(builtin) BETWEEN 1 AND 64),
    role_id uuid REFERENCES roles (id),
    expires_at timestamptz NOT NULL,
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nonnulls(partner_id, organization_id, site_id) <= 1),
    CHECK (num_nonnulls(builtin, role_id) = 1),
    UNIQUE NULLS NOT DISTINCT (user_id, partner_id, organization_id, site_id, builtin, role_id)
);
CREATE INDEX role_bindings_by_role ON role_bindings (role_id) WHERE role_id IS NOT NULL;

-- What was revoked before its end: a list that only grows, each row's mac covering the one before it. The API
-- keeps count and last mac in a file of its own, so that a row that is taken away is missed.
CREATE TABLE revocations (
    sequence bigint PRIMARY KEY CHECK (sequence > 0),
    subject uuid NOT NULL,
    -- Rows of the subject with a lower version grant nothing, whoever brings one back.
    below bigint NOT NULL,
    -- Until when it matters: the end of what is revoked.
    until timestamptz NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    mac_key text NOT NULL,
    mac bytea NOT NULL
);

-- The key that replaced it stays good for a while: rotation with overlap. A key that acts for its maker makes
-- things in the maker's name: what `cloudrmm up` hands out at each start.
ALTER TABLE api_keys
    ADD COLUMN previous_hash bytea UNIQUE CHECK (octet_length(previous_hash) = 32),
    ADD COLUMN previous_expires_at timestamptz,
    ADD COLUMN acts_for_maker boolean NOT NULL DEFAULT false,
    ADD COLUMN prefix text NOT NULL DEFAULT '' CHECK (octet_length(prefix) <= 16),
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    ADD COLUMN last_used_at timestamptz;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['users', 'roles', 'role_bindings', 'revocations'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    END LOOP;
END $$;
CREATE POLICY tenant ON users
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner())
           OR organization_id = ANY ((SELECT crmm_organizations())::uuid[]));
-- A role is used below the level that made it, and changed only there.
CREATE POLICY tenant ON roles
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner())
           OR organization_id = ANY ((SELECT crmm_organizations())::uuid[]));
CREATE POLICY tenant ON role_bindings
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner())
           OR organization_id = ANY ((SELECT crmm_organizations())::uuid[])
           OR site_id = (SELECT crmm_site())
           OR site_id IN (SELECT s.id FROM sites s WHERE s.id = role_bindings.site_id));
-- Who sees a site sees its keys: else nobody above it could revoke them.
DROP POLICY tenant ON api_keys;
CREATE POLICY tenant ON api_keys
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner())
           OR organization_id = ANY ((SELECT crmm_organizations())::uuid[])
           OR site_id = (SELECT crmm_site())
           OR site_id IN (SELECT s.id FROM sites s WHERE s.id = api_keys.site_id));
CREATE POLICY platform ON revocations USING ((SELECT crmm_is_platform()));

GRANT SELECT, INSERT, UPDATE ON users, roles, role_bindings TO crmm_api;
GRANT DELETE ON roles, role_bindings TO crmm_api;
GRANT SELECT, INSERT ON revocations TO crmm_api;
