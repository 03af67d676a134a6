-- A device asks for another certificate of its key through its gateway; the API answers. Neither is believed
-- by where it stands: the API judges a request by the device's signed assignment, the device an answer by the
-- authority that it has pinned.

ALTER TABLE devices
    -- A certificate request (PEM) that waits for an answer.
    ADD COLUMN renewal_request text CHECK (length(renewal_request) <= 16384),
    -- The answer that waits to be taken: the certificate (PEM), or why there is none.
    ADD COLUMN renewal_certificate text,
    ADD COLUMN renewal_refusal text;

CREATE INDEX devices_renewing ON devices (id) WHERE renewal_request IS NOT NULL;

GRANT UPDATE (renewal_request, renewal_certificate, renewal_refusal) ON devices TO crmm_gateway;
