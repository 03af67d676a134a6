-- Enrolment tokens are shown and revoked by their id.

CREATE UNIQUE INDEX enrollment_tokens_by_id ON enrollment_tokens (id);
