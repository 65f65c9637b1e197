-- How often a delivery was saved; the first was told that it is new.
ALTER TABLE deliveries ADD COLUMN saves INTEGER NOT NULL DEFAULT 1;
