-- Times are Unix nanoseconds.
CREATE TABLE deliveries (
	id                TEXT PRIMARY KEY,
	delivery          BLOB NOT NULL, -- all of it, as cloudinaryhook.Delivery marshals; the other columns are for queries
	notification_type TEXT NOT NULL,
	public_id         TEXT NOT NULL,
	request_id        TEXT NOT NULL,
	organization_id   TEXT NOT NULL,
	album_id          TEXT NOT NULL,
	received_at       INTEGER NOT NULL,
	signed_at         INTEGER NOT NULL,
	completed_at      INTEGER, -- NULL: pending
	cause             TEXT     -- why the app rejected it
) STRICT;

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
	version           INTEGER NOT NULL,
	format            TEXT NOT NULL,
	resource_type     TEXT NOT NULL,
	type              TEXT NOT NULL,
	original_filename TEXT NOT NULL,
	width             INTEGER NOT NULL,
	height            INTEGER NOT NULL,
	bytes             INTEGER NOT NULL,
	url               TEXT NOT NULL,
	secure_url        TEXT NOT NULL,
	created_at        INTEGER NOT NULL
) STRICT;

CREATE INDEX images_created ON images (created_at, key);
CREATE INDEX images_album ON images (album_id, created_at, key);
