// Package database keeps the images of the example apps, and lists images and
// deliveries for their pages.
package database

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver that OpenSQLite names

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/sqlstore"
)

const connectTimeout = 5 * time.Second

var (
	errEarlier     = errors.New("an earlier version of the gallery made this database, and this version cannot read it: name another database, or move this one away")
	errOtherImages = errors.New("the table images cannot be read, perhaps because another program made it: name another database")
)

// A DB keeps deliveries and images. Lists are newest first. It is safe for
// concurrent use.
type DB struct {
	*sqlstore.Store
	db   *sql.DB
	pool *pgxpool.Pool // nil on SQLite
}

// Open opens a database and brings its schema up to date. The name is a URL
// that begins with postgres:// or postgresql://, or else the path of an SQLite
// file. No error holds the URL.
func Open(ctx context.Context, name string) (*DB, error) {
	scheme, _, isURL := strings.Cut(name, "://")
	var err error
	db := new(DB)
	dialect := sqlstore.SQLite
	switch {
	case isURL && (scheme == "postgres" || scheme == "postgresql"):
		dialect = sqlstore.Postgres
		db.pool, db.db, err = openPostgres(ctx, name)
	case isURL:
		err = errors.New("the URL must begin with postgres:// or postgresql://")
	default:
		db.db, err = openSQLite(name)
	}
	if err == nil {
		err = db.open(ctx, dialect)
	}
	if err != nil && db.db != nil && dialect == sqlstore.SQLite {
		err = whyNot(name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", errors.Join(err, db.Close()))
	}
	return db, nil
}

func (db *DB) open(ctx context.Context, dialect sqlstore.Dialect) (err error) {
	if db.Store, err = sqlstore.New(ctx, db.db, dialect, sqlstore.Table("deliveries")); err != nil {
		return err
	}
	hasImages, err := db.check(ctx, dialect)
	if err != nil {
		return err
	}
	if err := db.Migrate(ctx); err != nil || hasImages { // then the database user needs no right to create tables
		return err
	}
	return db.createImages(ctx, dialect)
}

// check refuses tables with other columns, before Open adds its own to the
// database. It reports whether the table of images exists.
func (db *DB) check(ctx context.Context, dialect sqlstore.Dialect) (hasImages bool, err error) {
	hasDeliveries, err := db.has(ctx, dialect, "deliveries")
	if err == nil && hasDeliveries {
		var migrated bool
		if migrated, err = db.has(ctx, dialect, "deliveries_migrations"); err == nil && !migrated {
			err = errEarlier
		}
	}
	if err != nil {
		return false, err
	}
	if hasImages, err = db.has(ctx, dialect, "images"); hasImages {
		if _, err := db.db.ExecContext(ctx, "SELECT delivery_id, created_at FROM images LIMIT 0"); err != nil {
			return false, fmt.Errorf("%w: %w", errOtherImages, err)
		}
	}
	return hasImages, err
}

// has reports whether a table exists. Reading from a missing table would write
// an error to Postgres' log.
func (db *DB) has(ctx context.Context, dialect sqlstore.Dialect, table string) (has bool, err error) {
	statement := "SELECT to_regclass($1) IS NOT NULL"
	if dialect == sqlstore.SQLite {
		statement = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = $1)"
	}
	err = db.db.QueryRowContext(ctx, statement, table).Scan(&has)
	return has, err
}

//go:embed schema.sql
var schema string

// createImages creates the table of images and the indexes for the pages.
// Galleries that start at the same time wait for each other.
func (db *DB) createImages(ctx context.Context, dialect sqlstore.Dialect) error {
	tx, err := db.db.BeginTx(ctx, nil) // on SQLite this takes the write lock
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if dialect == sqlstore.Postgres {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtext('images'))"); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return err
	}
	return tx.Commit()
}

// openPostgres connects to the database of a URL such as
// postgres://user@host/database. Errors hold no password. It is better to give
// the password in PGPASSWORD or in a password file, which are read too.
func openPostgres(ctx context.Context, url string) (*pgxpool.Pool, *sql.DB, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		// The error quotes the part that it could not parse, which may be a password.
		return nil, nil, errors.New("its URL or the environment's PG variables cannot be read; a password's special characters are written as %XX")
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	config.MaxConns = max(config.MaxConns, 2) // one for the store, and one for reading
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	return pool, stdlib.OpenDBFromPool(pool), nil
}

// openSQLite opens the file. It creates the file if it does not exist.
func openSQLite(path string) (*sql.DB, error) {
	if path == "" || path == ":memory:" {
		return nil, fmt.Errorf("%w: it is in memory", sqlstore.ErrNotDurable)
	}
	if err := createPrivate(path); err != nil {
		return nil, withoutPath(err)
	}
	// synchronous=FULL syncs the write-ahead log at each commit, so that a
	// notification that was answered 201 survives a power failure.
	const options = "?_txlock=immediate&_pragma=busy_timeout(4000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	db, err := sql.Open("sqlite", "file:"+strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)+options)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(max(2, runtime.GOMAXPROCS(0))) // one connection writes; more readers would take processor time from it
	return db, nil
}

// createPrivate creates the file if it does not exist. No other user can read
// it, because bodies name people. SQLite gives its other files the same mode.
// It does not open a file that exists: if this process has the file open
// already, closing it would end SQLite's locks.
func createPrivate(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the user names the file
	if errors.Is(err, fs.ErrExist) {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// This is a link to a missing file. O_EXCL does not follow links.
		file, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // as above
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// whyNot adds the operating system's reason to an error of SQLite, which only
// says "unable to open database file". The reason is that the program cannot
// write to the file, or to its folder, where SQLite creates more files.
func whyNot(path string, err error) error {
	file, reason := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // as above
	if reason == nil {
		_ = file.Close() // this ends no locks, because this program could not open the database
		if file, reason = os.CreateTemp(filepath.Dir(path), "gallery"); reason == nil {
			_ = errors.Join(file.Close(), os.Remove(file.Name()))
			return err
		}
		reason = fmt.Errorf("writing to its folder: %w", withoutPath(reason))
	}
	return fmt.Errorf("%w: %w", withoutPath(reason), err)
}

// withoutPath removes the name from an error: it may be a URL without its
// scheme, and hold a password.
func withoutPath(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}

// Close finishes the work that has begun, and then closes the connections.
func (db *DB) Close() (err error) {
	if db.Store != nil {
		err = db.Store.Close()
	}
	if db.db != nil {
		err = errors.Join(err, db.db.Close())
	}
	if db.pool != nil {
		db.pool.Close()
	}
	return err
}

// maxAlbumID is the limit in bytes. The store's column album_id cannot hold
// more.
const maxAlbumID = 1000

var errAlbum = fmt.Errorf("the token has no album_id, or one of more than %d bytes", maxAlbumID)

// CreateImage implements [cloudinaryhook.ImageCreator]. The row shares the
// commit of deliveries that are saved at the same time. If the album ID is
// missing or too long, the error is Permanent, because a retry would not change
// that.
func (db *DB) CreateImage(ctx context.Context, announced *cloudinaryhook.Image) error {
	if n := len(announced.Claims.AlbumID); n == 0 || n > maxAlbumID {
		return cloudinaryhook.Permanent(errAlbum)
	}
	i := newImage(announced)
	return db.Do(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO images (key, delivery_id, organization_id, album_id, asset_id, public_id, version, format,
				resource_type, type, original_filename, width, height, bytes, url, secure_url, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) ON CONFLICT (key) DO NOTHING`,
			i.Key, i.DeliveryID, i.OrganizationID, i.AlbumID, i.AssetID, i.PublicID, i.Version, i.Format,
			i.ResourceType, i.DeliveryType, i.OriginalFilename, i.Width, i.Height, i.Bytes, i.URL, i.SecureURL, time.Now().UnixNano())
		return err
	})
}
