-- Times are Unix nanoseconds. leased_until is a time of the database's clock.
-- All others are times of the clock of the process that wrote them.
CREATE TABLE cloudinary_deliveries (
	id                TEXT PRIMARY KEY,
	notification_type TEXT NOT NULL,              -- all columns but the last are for queries: their text is
	public_id         TEXT NOT NULL,              -- cut after 1,000 bytes, and invalid UTF-8 is replaced
	request_id        TEXT NOT NULL,
	organization_id   TEXT NOT NULL,
	album_id          TEXT NOT NULL,
	received_at       BIGINT NOT NULL,
	signed_at         BIGINT NOT NULL,
	saves             BIGINT NOT NULL DEFAULT 1,  -- how often it was saved
	resumes           BIGINT NOT NULL DEFAULT 0,  -- how many of the saves resumed it; the others received it
	completed_at      BIGINT,                     -- NULL: pending
	cause             TEXT,                       -- why it was rejected; NULL: it was not
	leased_until      BIGINT,                     -- until then, only the process with the lease resumes it
	delivery          BYTEA NOT NULL              -- all of it, as cloudinaryhook.Delivery marshals; large, so it comes last
);

CREATE INDEX cloudinary_deliveries_pending ON cloudinary_deliveries (received_at, id) WHERE completed_at IS NULL;
CREATE INDEX cloudinary_deliveries_completed ON cloudinary_deliveries (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX cloudinary_deliveries_rejected ON cloudinary_deliveries (completed_at, id) WHERE cause IS NOT NULL;

-- The sums of the columns are the totals. Each connection that writes has a row
-- of its own, so that no two wait for each other.
CREATE TABLE cloudinary_deliveries_totals (
	writer     TEXT PRIMARY KEY,
	deliveries BIGINT NOT NULL,
	pending    BIGINT NOT NULL,
	rejected   BIGINT NOT NULL,
	recounts   BIGINT NOT NULL DEFAULT 0
);
-- This row counts how often the totals were compared with the deliveries.
INSERT INTO cloudinary_deliveries_totals (writer, deliveries, pending, rejected) VALUES ('', 0, 0, 0);

CREATE TABLE IF NOT EXISTS cloudinary_deliveries_migrations (version BIGINT PRIMARY KEY);
INSERT INTO cloudinary_deliveries_migrations (version) VALUES (1);
