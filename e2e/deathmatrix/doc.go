// Package deathmatrix kills, stops, hangs, starves and cuts off the parts of
// Writ while workloads of each kind run, and measures from the fault to the
// workload's last progress.
//
// Its tests are its only content. In every cell of the matrix the last
// progress must come within the lease's length and the budget, and afterwards
// nothing may be left: no process, no control group, no mount.
//
//	go test ./e2e/deathmatrix                        within a tolerance, side by side
//	go test ./e2e/deathmatrix -precise -v -timeout 30m   one by one, within the budget, and print the table
//
// It does not test what an operator orders, nor what an adversary tries.
package deathmatrix
