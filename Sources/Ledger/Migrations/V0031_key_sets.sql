-- The key sets that the root key has signed, as gateways hand them to agents. Agents believe their signature
-- and nothing else; whoever puts another row here can keep agents from a newer set, as whoever has a gateway.

CREATE TABLE key_sets (
    version bigint PRIMARY KEY CHECK (version > 0),
    -- The encoded statement.
    statement bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE key_sets ENABLE ROW LEVEL SECURITY;
ALTER TABLE key_sets FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone ON key_sets USING (true);
GRANT SELECT, INSERT ON key_sets TO crmm_api;
GRANT SELECT ON key_sets TO crmm_gateway;

-- The id of the key that signed a token, which itself is not kept; nothing is known of older ones.
ALTER TABLE enrollment_tokens ADD COLUMN signed_by bytea CHECK (length(signed_by) = 8);

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON key_sets
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
