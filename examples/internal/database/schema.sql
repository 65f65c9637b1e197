-- For Postgres and SQLite. The deliveries are sqlstore's table.

-- Because of the primary key, any number of CreateImage calls for an image make
-- one row.
CREATE TABLE IF NOT EXISTS images (
	key               TEXT PRIMARY KEY,
	delivery_id       TEXT NOT NULL, -- the delivery may be pruned before the image is deleted
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

-- Indexes for the lists of the pages, newest first. The first index of each
-- table also has the column with the names for the filter, so that they are
-- read from the index alone.
CREATE INDEX IF NOT EXISTS images_created ON images (created_at, key, album_id);
CREATE INDEX IF NOT EXISTS images_album ON images (album_id, created_at, key);

CREATE INDEX IF NOT EXISTS deliveries_received ON deliveries (received_at, id, notification_type);
CREATE INDEX IF NOT EXISTS deliveries_album ON deliveries (album_id, received_at, id);
CREATE INDEX IF NOT EXISTS deliveries_type ON deliveries (notification_type, received_at, id);
CREATE INDEX IF NOT EXISTS deliveries_album_type ON deliveries (album_id, notification_type, received_at, id);
