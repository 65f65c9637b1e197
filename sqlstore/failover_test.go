package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook/internal/postgrestest"
)

// A proxy is an address that points at one server or another.
type proxy struct {
	net.Listener
	mu         sync.Mutex
	target     string
	conns      []net.Conn
	cutCommits atomic.Bool // the server gets the commit, but its answer is lost
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: listener, target: target}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
		wg.Wait()
	})
	return p
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	p.mu.Lock()
	server, err := net.Dial("tcp", p.target)
	if err == nil {
		p.conns = append(p.conns, client, server)
	}
	p.mu.Unlock()
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, readerFunc(func(b []byte) (int, error) {
			n, err := client.Read(b)
			if p.cutCommits.Load() && string(b[:n]) == "Q\x00\x00\x00\x0bcommit\x00" {
				_ = client.Close()
			}
			return n, err
		}))
		_ = server.(*net.TCPConn).CloseWrite() // the server still executes what it has received
	}()
	_, _ = io.Copy(client, server)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// point sends new connections to another server. Open connections stay.
func (p *proxy) point(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.conns = nil
}

// A failover is a store behind a proxy.
type failover struct {
	*Store
	*proxy
	tried, saved int
}

// try saves another delivery.
func (f *failover) try(t *testing.T) error {
	f.tried++
	_, err := f.Save(t.Context(), upload(t, f.tried))
	if err == nil {
		f.saved++
	}
	return err
}

// wantSave checks that the very next save succeeds, and logs how long it took.
func (f *failover) wantSave(t *testing.T, when string) {
	t.Helper()
	start := time.Now()
	if err := f.try(t); err != nil {
		t.Fatalf("the next Save %s got %v, want nil", when, err)
	}
	t.Logf("the next Save %s took %v", when, time.Since(start))
	if err := f.Ping(t.Context()); err != nil {
		t.Errorf("Ping %s got %v, want nil", when, err)
	}
}

func (f *failover) wantReadOnly(t *testing.T, when string) {
	t.Helper()
	if err := f.try(t); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Save %s got %v, want %v", when, err, ErrReadOnly)
	}
	if err := f.Ping(t.Context()); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Ping %s got %v, want %v", when, err, ErrReadOnly)
	}
}

// fillPool opens as many connections as the pool may keep, as the app's readers
// would.
func (f *failover) fillPool(t *testing.T) {
	t.Helper()
	for range 7 { // the store has the eighth
		conn, err := f.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
}

// TestFailover: the proxy points at several servers in turn. The store saves
// again as soon as the current server accepts writes, with plain database/sql.
func TestFailover(t *testing.T) {
	primary := postgrestest.Start(t)
	address := primary.Database(t)
	standby := primary.Standby(t)
	p := newProxy(t, primary.Addr())
	name := strings.Replace(address, primary.Addr(), p.Addr().String(), 1)
	f := &failover{Store: open(t, Postgres, name), proxy: p}
	f.db.SetMaxIdleConns(8)
	f.wantSave(t, "at first")

	for range 3 {
		f.fillPool(t)
		f.cut()
		f.wantSave(t, "after all connections were cut")
	}
	for range 3 {
		f.point(standby.Addr())
		f.cut()
		f.fillPool(t)
		f.wantReadOnly(t, "while the name points at a standby")
		f.fillPool(t)
		f.point(primary.Addr()) // connections to the standby stay open
		f.wantSave(t, "after the name points at the primary again")
	}

	admin := openDB(t, Postgres, primary.URL("postgres"))
	for _, readOnly := range []string{"on", "off"} {
		for _, statement := range []string{"ALTER SYSTEM SET default_transaction_read_only = " + readOnly, "SELECT pg_reload_conf()"} {
			conn, err := admin.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := execAll(t.Context(), conn, []string{"SET default_transaction_read_only = off", statement}); err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
		}
		waitForSetting(t, f, readOnly)
		if readOnly == "on" {
			f.wantReadOnly(t, "while the server is read-only")
		} else {
			f.wantSave(t, "after the server is no longer read-only")
		}
	}

	waitForStandby(t, standby, address, f)
	primary.Kill()
	if err := f.try(t); err == nil {
		t.Error("Save without a server got nil, want an error")
	}
	f.point(standby.Addr())
	f.wantReadOnly(t, "before the standby was promoted")
	if err := standby.Promote(); err != nil {
		t.Fatal(err)
	}
	f.wantSave(t, "after the standby was promoted")
	if got := stats(t, f.Store).Deliveries; got != int64(f.saved) {
		t.Errorf("the standby has %d deliveries, want the %d that were saved", got, f.saved)
	}
}

// waitForSetting returns when the server's sessions have the new setting.
func waitForSetting(t *testing.T, f *failover, readOnly string) {
	t.Helper()
	for {
		var got string
		if err := f.db.QueryRowContext(t.Context(), "SHOW default_transaction_read_only").Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got == readOnly {
			return
		}
	}
}

// waitForStandby returns when the standby has all saved deliveries.
func waitForStandby(t *testing.T, standby *postgrestest.Server, address string, f *failover) {
	t.Helper()
	database := address[strings.LastIndex(address, "/")+1 : strings.Index(address, "?")]
	db := openDB(t, Postgres, standby.URL(database))
	want := stats(t, f.Store).Deliveries
	for {
		var got int64
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM cloudinary_deliveries").Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got == want {
			return
		}
	}
}

// TestLostAnswerOfACommit: if the commit is not answered, nobody knows whether
// it was done. The callers get an error, and nothing is tried again, because an
// app's function may not be safe to commit twice.
func TestLostAnswerOfACommit(t *testing.T) {
	server := postgres(t)
	address := server.Database(t)
	p := newProxy(t, server.Addr())
	s := open(t, Postgres, strings.Replace(address, server.Addr(), p.Addr().String(), 1))
	if _, err := s.db.Exec("CREATE TABLE app_log (i BIGINT)"); err != nil {
		t.Fatal(err)
	}
	do := func(i int) error {
		return s.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO app_log (i) VALUES ($1)", i)
			return err
		})
	}
	together(t, s, 10, func(i int) {
		p.cutCommits.Store(true) // cuts every commit, also those of the other calls
		if err := do(i); err == nil {
			t.Errorf("Do %d got nil, want an error: its commit was not answered", i)
		}
	})
	p.cutCommits.Store(false)
	if err := do(10); err != nil {
		t.Fatal(err)
	}
	var most int
	if err := s.db.QueryRow("SELECT max(n) FROM (SELECT count(*) AS n FROM app_log GROUP BY i) AS counted").Scan(&most); err != nil {
		t.Fatal(err)
	}
	if most != 1 {
		t.Errorf("one of the functions was committed %d times, want each at most once", most)
	}
}

// TestCutUnderLoad: connections that are cut in the middle of commits cause
// errors, but no acknowledged delivery is lost.
func TestCutUnderLoad(t *testing.T) {
	server := postgres(t)
	address := server.Database(t)
	p := newProxy(t, server.Addr())
	s := open(t, Postgres, strings.Replace(address, server.Addr(), p.Addr().String(), 1))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var number, failed atomic.Int64
	var mu sync.Mutex
	acknowledged := make(map[string]bool)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for ctx.Err() == nil {
				d := upload(t, int(number.Add(1)))
				if _, err := s.Save(ctx, d); err != nil {
					failed.Add(1)
					continue
				}
				mu.Lock()
				acknowledged[d.ID] = true
				mu.Unlock()
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged)
	}
	for range 10 {
		for before := count(); count() < before+50; {
			time.Sleep(time.Millisecond)
		}
		p.cut()
	}
	stop()
	wg.Wait()
	t.Logf("%d saves were acknowledged, %d failed", len(acknowledged), failed.Load())
	for id := range acknowledged {
		var found int
		if err := s.db.QueryRow("SELECT count(*) FROM cloudinary_deliveries WHERE id = $1", id).Scan(&found); err != nil || found != 1 {
			t.Fatalf("the acknowledged delivery %s is in the table %d times (error: %v), want once", id, found, err)
		}
	}
	var rows int64
	if err := s.db.QueryRow("SELECT count(*) FROM cloudinary_deliveries").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	wantStats(t, s, totals{Deliveries: rows, Pending: rows})
}

// A refusing connector stands for a database that nobody can reach.
type refusing struct{ connects int }

func (r *refusing) Connect(context.Context) (driver.Conn, error) {
	r.connects++
	return nil, errors.New("connection refused")
}

func (r *refusing) Driver() driver.Driver { return nil }

// TestOneConnectPerBatch: an attempt to reach a dead host may take seconds, and
// no delivery is saved meanwhile. So a batch makes one attempt only.
func TestOneConnectPerBatch(t *testing.T) {
	connector := new(refusing)
	db := sql.OpenDB(connector)
	defer db.Close()
	var batch []*write
	for range 20 {
		batch = append(batch, &write{ctx: t.Context(), save: new(saving), result: make(chan error, 1)})
	}
	(&committer{store: &Store{db: db, dialect: Postgres, table: DefaultTable}}).settle(batch)
	for _, w := range batch {
		if err := <-w.result; err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("a write got %v, want an error that says that the connection was refused", err)
		}
	}
	if connector.connects != 1 {
		t.Errorf("%d writes in one batch made %d attempts to connect, want 1", len(batch), connector.connects)
	}
}
