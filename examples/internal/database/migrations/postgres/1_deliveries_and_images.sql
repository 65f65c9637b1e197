-- Times are Unix nanoseconds by the receivers' clocks; leases go by the database's.
-- Plain SQL: no extension, no sequence, nothing that only Postgres itself has.
CREATE TABLE deliveries (
	id                TEXT PRIMARY KEY,
	delivery          BYTEA NOT NULL, -- all of it, as cloudinaryhook.Delivery marshals; the other columns are for queries
	saves             BIGINT NOT NULL, -- how often it was saved; the first was told that it is new
	notification_type TEXT NOT NULL,
	public_id         TEXT NOT NULL,
	request_id        TEXT NOT NULL,
	organization_id   TEXT NOT NULL,
	album_id          TEXT NOT NULL,
	received_at       BIGINT NOT NULL,
	signed_at         BIGINT NOT NULL,
	completed_at      BIGINT,      -- NULL: pending
	cause             TEXT,        -- why the app rejected it
	leased_until      TIMESTAMPTZ  -- a pending one is another instance's to process until then
);

CREATE INDEX deliveries_received ON deliveries (received_at, id);
CREATE INDEX deliveries_pending ON deliveries (received_at, id) WHERE completed_at IS NULL;
CREATE INDEX deliveries_completed ON deliveries (completed_at) WHERE completed_at IS NOT NULL;

-- The primary key is what makes one image of any number of CreateImage calls.
CREATE TABLE images (
	key               TEXT PRIMARY KEY,
	delivery_id       TEXT NOT NULL, -- may be pruned before the image is gone
	organization_id   TEXT NOT NULL,
	album_id          TEXT NOT NULL,
	asset_id          TEXT NOT NULL,
	public_id         TEXT NOT NULL,
	version           BIGINT NOT NULL,
	format            TEXT NOT NULL,
	resource_type     TEXT NOT NULL,
	type              TEXT NOT NULL,
	original_filename TEXT NOT NULL,
	width             BIGINT NOT NULL,
	height            BIGINT NOT NULL,
	bytes             BIGINT NOT NULL,
	url               TEXT NOT NULL,
	secure_url        TEXT NOT NULL,
	created_at        BIGINT NOT NULL
);

CREATE INDEX images_created ON images (created_at, key);
CREATE INDEX images_album ON images (album_id, created_at, key);
