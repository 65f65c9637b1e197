-- Times are Unix nanoseconds: leases go by the database's clock, all others by
-- that of the process that wrote them.
CREATE TABLE cloudinary_deliveries (
	id                TEXT PRIMARY KEY,
	notification_type TEXT NOT NULL,              -- all columns but the last are for queries: text is
	public_id         TEXT NOT NULL,              -- cut after 1,000 bytes, and what is not UTF-8 in it replaced
	request_id        TEXT NOT NULL,
	organization_id   TEXT NOT NULL,
	album_id          TEXT NOT NULL,
	received_at       BIGINT NOT NULL,
	signed_at         BIGINT NOT NULL,
	saves             BIGINT NOT NULL DEFAULT 1,  -- how often it was saved; the first was told that it is new
	resumes           BIGINT NOT NULL DEFAULT 0,  -- how many of them were to resume it, and not to receive it again
	completed_at      BIGINT,                     -- NULL: pending
	cause             TEXT,                       -- why it was rejected; NULL: it was not
	leased_until      BIGINT,                     -- a pending one is another process's to resume until then
	delivery          BYTEA NOT NULL              -- all of it, as cloudinaryhook.Delivery marshals; large, so it comes last
);

CREATE INDEX cloudinary_deliveries_pending ON cloudinary_deliveries (received_at, id) WHERE completed_at IS NULL;
CREATE INDEX cloudinary_deliveries_completed ON cloudinary_deliveries (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX cloudinary_deliveries_rejected ON cloudinary_deliveries (completed_at, id) WHERE cause IS NOT NULL;

-- The sums are how many deliveries there are. Each connection that writes has a
-- row of its own, so that no two wait for each other.
CREATE TABLE cloudinary_deliveries_totals (
	writer     TEXT PRIMARY KEY,
	deliveries BIGINT NOT NULL,
	pending    BIGINT NOT NULL,
	rejected   BIGINT NOT NULL,
	recounts   BIGINT NOT NULL DEFAULT 0
);
-- This row counts how often the totals were compared with the rows.
INSERT INTO cloudinary_deliveries_totals (writer, deliveries, pending, rejected) VALUES ('', 0, 0, 0);

CREATE TABLE IF NOT EXISTS cloudinary_deliveries_migrations (version BIGINT PRIMARY KEY);
INSERT INTO cloudinary_deliveries_migrations (version) VALUES (1);
