package deadline

//go:generate go tool -modfile=../../../tools/go.mod bpf2go -target bpfel -type deadline -type stop -type owner -go-package deadline program bpf/deadline.c -- -O2 -Wall -Werror -I/usr/include/x86_64-linux-gnu
