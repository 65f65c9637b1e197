package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// samples has all samples of one server with one body.
type samples struct {
	process *process
	all     []sample
}

// compare measures every server with every body, in turns, and prints tables.
func compare(ctx context.Context, c *config, stdout, stderr io.Writer) error {
	dir, err := prepare()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if c.awake {
		sleep, err := keepAwake(ctx, c.clientCores)
		if err != nil {
			return err
		}
		defer sleep()
	}
	rows, stop, err := startAll(ctx, c, dir)
	defer stop()
	if err != nil {
		return err
	}
	for round := range c.rounds + 1 {
		fmt.Fprintf(stderr, "\rround %d of %d ", round, c.rounds)
		if err := takeTurns(ctx, c, rows, round); err != nil {
			return err
		}
	}
	fmt.Fprintln(stderr)
	fmt.Fprintf(stdout, "%s; servers on core %s, wrk on core %s, kept awake: %v, %d connections; medians of %d turns of %v\n",
		machine(), c.serverCores, c.clientCores, c.awake, c.connections, c.rounds, c.slice)
	printShares(stdout, c, rows, "requests per second, as a share of the empty handler", func(s sample) float64 { return s.rate })
	printShares(stdout, c, rows, "the same by processor time per request, which other work on the machine disturbs less",
		func(s sample) float64 { return 1 / float64(s.cpu) })
	return printDetails(stdout, c, rows)
}

// keepAwake runs a loop of the lowest priority on wrk's cores. If a server is
// slower than wrk, wrk sleeps, and the server has to wake it with every answer.
// That costs about 5 µs in a virtual machine. The empty server is as fast as
// wrk, so it does not pay this. The loop takes no time from wrk, but if two
// cores are threads of one physical core, it slows all servers, also the empty
// one.
func keepAwake(ctx context.Context, cores string) (stop func(), err error) {
	loop := func(script string) *exec.Cmd {
		return exec.CommandContext(ctx, "taskset", "-c", cores, "chrt", "--idle", "0", "sh", "-c", script) //nolint:gosec // our own script
	}
	if out, err := loop("exit 0").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("-awake: %w: %s", err, out)
	}
	cmd := loop("while :; do :; done")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = cmd.Process.Kill() // taskset and chrt have become the shell
		_ = cmd.Wait()
	}, nil
}

// startAll starts every server once for every body. rows are by body and
// server. If a server cannot be started, stop still ends the others.
func startAll(ctx context.Context, c *config, dir string) (rows map[string]map[string]*samples, stop func(), err error) {
	rows = make(map[string]map[string]*samples)
	stop = func() {
		for _, row := range rows {
			for _, s := range row {
				s.process.stop()
			}
		}
	}
	for _, name := range c.bodies {
		content, err := body(name)
		if err != nil {
			return rows, stop, err
		}
		rows[name] = make(map[string]*samples)
		for _, server := range c.servers {
			scripts := filepath.Join(dir, name+"-"+server)
			if err := os.Mkdir(scripts, 0o700); err != nil { //nolint:gosec // the names were found among our own
				return rows, stop, err
			}
			profile := ""
			if c.profile != "" {
				profile = filepath.Join(c.profile, server+"-"+name+".pprof")
			}
			p, err := start(ctx, server, c.serverCores, profile, scripts, content)
			if err != nil {
				return rows, stop, err
			}
			rows[name][server] = &samples{process: p}
		}
	}
	return rows, stop, nil
}

// takeTurns drives each server once with each body.
func takeTurns(ctx context.Context, c *config, rows map[string]map[string]*samples, round int) error {
	for _, name := range c.bodies {
		for i := range c.servers {
			row := rows[name][c.servers[(i+round)%len(c.servers)]] // so that no server is always first
			s, err := row.process.drive(ctx, c.clientCores, c.connections, c.slice)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", row.process.server, name, err)
			}
			if round > 0 { // the first round is to warm up
				row.all = append(row.all, s)
			}
		}
	}
	return nil
}

// prepare makes a directory for scripts. If a program is missing, its error
// names the Debian packages.
func prepare() (dir string, err error) {
	for _, program := range []string{"taskset", "chrt", "wrk"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("%w; on Debian: apt install util-linux wrk", err)
		}
	}
	return os.MkdirTemp("", "bench")
}

// printShares prints each server's rate as a share of the empty server's rate
// in the same round. It prints the median of the rounds.
func printShares(w io.Writer, c *config, rows map[string]map[string]*samples, title string, rate func(sample) float64) {
	fmt.Fprintf(w, "\n%s\n\n| | %s |\n|---|%s\n", title, strings.Join(c.bodies, " | "), strings.Repeat("--:|", len(c.bodies)))
	for _, server := range c.servers {
		fmt.Fprintf(w, "| %s |", server)
		for _, name := range c.bodies {
			floor, own := rows[name]["empty"].all, rows[name][server].all
			var shares []float64
			for i := range own {
				shares = append(shares, rate(own[i])/rate(floor[i]))
			}
			share := fmt.Sprintf("%.3f", median(shares))
			fmt.Fprintf(w, " %s |", strings.TrimPrefix(share, "0"))
		}
		fmt.Fprintln(w)
	}
}

func printDetails(w io.Writer, c *config, rows map[string]map[string]*samples) error {
	fmt.Fprint(w, "\n| body | server | requests/s | p50 | p99 | CPU per request | peak memory |\n|---|---|--:|--:|--:|--:|--:|\n")
	for _, name := range c.bodies {
		for _, server := range c.servers {
			row := rows[name][server]
			memory, err := peakMemory(row.process.pid)
			if err != nil {
				return err
			}
			m := medians(row.all)
			fmt.Fprintf(w, "| %s | %s | %.0f | %v | %v | %.1f µs | %.0f MiB |\n", name, server, m.rate, m.p50, m.p99,
				float64(m.cpu)/float64(time.Microsecond), float64(memory)/(1<<20))
		}
	}
	return nil
}

func median[T float64 | time.Duration](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

func medians(all []sample) sample {
	var rates []float64
	var p50, p99, cpu []time.Duration
	for _, s := range all {
		rates, p50, p99, cpu = append(rates, s.rate), append(p50, s.p50), append(p99, s.p99), append(cpu, s.cpu)
	}
	return sample{median(rates), median(p50), median(p99), median(cpu)}
}

// machine returns the names of the processor and the Go version, and the number
// of cores.
func machine() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, _ := strings.Cut(string(text), "model name")
	line, _, _ := strings.Cut(rest, "\n")
	model := strings.TrimLeft(line, "\t :")
	if model == "" {
		model = runtime.GOARCH
	}
	return fmt.Sprintf("%s, %d cores, %s", model, runtime.NumCPU(), runtime.Version())
}
