-- For Postgres and SQLite. The deliveries are sqlstore's table.

-- The primary key is what makes one image of any number of CreateImage calls.
CREATE TABLE IF NOT EXISTS images (
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
	created_at        BIGINT NOT NULL -- Unix nanoseconds
);

-- What the pages list, newest first. The last column of the first index of each
-- table has the names to filter by read from it alone.
CREATE INDEX IF NOT EXISTS images_created ON images (created_at, key, album_id);
CREATE INDEX IF NOT EXISTS images_album ON images (album_id, created_at, key);

CREATE INDEX IF NOT EXISTS deliveries_received ON deliveries (received_at, id, notification_type);
CREATE INDEX IF NOT EXISTS deliveries_album ON deliveries (album_id, received_at, id);
CREATE INDEX IF NOT EXISTS deliveries_type ON deliveries (notification_type, received_at, id);
CREATE INDEX IF NOT EXISTS deliveries_album_type ON deliveries (album_id, notification_type, received_at, id);
