-- Tokens of other issuers: whom to believe, and what their names stand for here.

-- All rows here grant power: mac covers the table, the id, mac_key and every column that says who is
-- believed, about what, and until when. A row that has expired grants nothing; the API renews those in use.

-- An issuer of tokens (OpenID Connect), at home at the platform (neither id), a partner or an organization:
-- its tokens open nothing outside its home. Several rows may name one issuer: the audience tells them apart.
CREATE TABLE oidc_providers (
    id uuid PRIMARY KEY,
    partner_id uuid REFERENCES partners (id),
    organization_id uuid REFERENCES organizations (id),
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    issuer text NOT NULL CHECK (octet_length(issuer) BETWEEN 1 AND 512),
    -- Domain.OIDCPreset
    preset text NOT NULL CHECK (preset IN ('generic', 'clerk')),
    -- Domain.OIDCKeySource: the issuer's own documents, or Clerk's API with the operator's secret
    key_source text NOT NULL CHECK (key_source IN ('discovery', 'clerkAPI')),
    audiences text[] NOT NULL,
    authorized_parties text[] NOT NULL,
    -- Where in the claims they stand; the subject is always sub.
    organization_claim text NOT NULL CHECK (octet_length(organization_claim) BETWEEN 1 AND 512),
    role_claim text NOT NULL CHECK (octet_length(role_claim) BETWEEN 1 AND 512),
    email_claim text NOT NULL CHECK (octet_length(email_claim) BETWEEN 1 AND 512),
    -- Whether a person is also known by an address that the issuer has verified.
    links_by_email boolean NOT NULL DEFAULT false,
    -- Domain.OIDCTokenUse
    token_use text NOT NULL CHECK (token_use IN ('accessToken', 'sessionToken', 'idToken')),
    leeway_seconds bigint NOT NULL CHECK (leeway_seconds BETWEEN 0 AND 300),
    lifetime_seconds bigint NOT NULL CHECK (lifetime_seconds BETWEEN 60 AND 86400),
    -- As what this installation is registered at the issuer, where people may sign in there: where they are
    -- sent back to, and the secret, sealed.
    client_id text CHECK (octet_length(client_id) BETWEEN 1 AND 255),
    redirect_urls text[] NOT NULL DEFAULT '{}',
    sealed bytea,
    disabled boolean NOT NULL DEFAULT false,
    expires_at timestamptz NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    -- How many links were ever made or edited: who makes one has looked at all those before it.
    links_made bigint NOT NULL DEFAULT 0,
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (partner_id IS NULL OR organization_id IS NULL),
    CHECK (client_id IS NOT NULL OR sealed IS NULL),
    UNIQUE NULLS NOT DISTINCT (partner_id, organization_id, name)
);
CREATE INDEX oidc_providers_by_issuer ON oidc_providers (issuer, id);

-- What a name of an issuer stands for here: a subject for a person, an organization for an organization, a
-- role for a role. The home is the provider's.
CREATE TABLE oidc_links (
    id uuid PRIMARY KEY,
    provider_id uuid NOT NULL REFERENCES oidc_providers (id),
    partner_id uuid REFERENCES partners (id),
    organization_id uuid REFERENCES organizations (id),
    -- Domain.OIDCLinkKind
    kind text NOT NULL CHECK (kind IN ('subject', 'organization', 'role')),
    external text NOT NULL CHECK (octet_length(external) BETWEEN 1 AND 255),
    user_id uuid REFERENCES users (id),
    target_organization_id uuid REFERENCES organizations (id),
    builtin text CHECK (octet_length(builtin) BETWEEN 1 AND 64),
    role_id uuid REFERENCES roles (id),
    expires_at timestamptz NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (partner_id IS NULL OR organization_id IS NULL),
    CHECK ((kind = 'subject') = (user_id IS NOT NULL)),
    CHECK ((kind = 'organization') = (target_organization_id IS NOT NULL)),
    CHECK (num_nonnulls(builtin, role_id) = CASE kind WHEN 'role' THEN 1 ELSE 0 END),
    UNIQUE (provider_id, kind, external)
);
CREATE INDEX oidc_links_by_user ON oidc_links (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX oidc_links_by_role ON oidc_links (role_id) WHERE role_id IS NOT NULL;
CREATE INDEX oidc_links_by_target ON oidc_links (target_organization_id)
    WHERE target_organization_id IS NOT NULL;

ALTER TABLE oidc_providers ENABLE ROW LEVEL SECURITY;
ALTER TABLE oidc_providers FORCE ROW LEVEL SECURITY;
ALTER TABLE oidc_links ENABLE ROW LEVEL SECURITY;
ALTER TABLE oidc_links FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON oidc_providers
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner())
           OR organization_id = ANY ((SELECT crmm_organizations())::uuid[]));
CREATE POLICY tenant ON oidc_links
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner())
           OR organization_id = ANY ((SELECT crmm_organizations())::uuid[]));

-- Home, issuer, preset and the source of keys are as they were made.
GRANT SELECT, INSERT, DELETE ON oidc_providers, oidc_links TO crmm_api;
GRANT UPDATE (name, audiences, authorized_parties, organization_claim, role_claim, email_claim,
              links_by_email, token_use, leeway_seconds, lifetime_seconds, client_id, redirect_urls, sealed,
              disabled, expires_at, version, links_made, mac_key, mac,
              updated_at) ON oidc_providers TO crmm_api;
GRANT UPDATE (user_id, target_organization_id, builtin, role_id, expires_at, version, mac_key, mac,
              updated_at)
    ON oidc_links TO crmm_api;

CREATE TRIGGER audit AFTER INSERT OR DELETE
    OR UPDATE OF partner_id, organization_id, name, issuer, preset, key_source, audiences, authorized_parties,
                 organization_claim, role_claim, email_claim, links_by_email, token_use, leeway_seconds,
                 lifetime_seconds, client_id, redirect_urls, sealed, disabled ON oidc_providers
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE
    OR UPDATE OF partner_id, organization_id, provider_id, kind, external, user_id,
                 target_organization_id, builtin, role_id ON oidc_links
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
