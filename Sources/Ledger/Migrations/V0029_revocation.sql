-- The certificates of one device are revoked too: gateways look for what was revoked just now, and the log
-- has it.

CREATE INDEX certificates_by_device ON certificates (organization_id, device_id);
CREATE INDEX certificates_revoked ON certificates (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TRIGGER audit AFTER UPDATE OF revoked_at ON certificates
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
