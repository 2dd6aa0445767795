// mark tells of its having run by creating the file named after its own
// content: MARK is "good" or "evil", in the directory DIR.
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static volatile char name[] = DIR "/ran-" MARK;

int main(int argc, char **argv) {
	if (argc > 1 && strcmp(argv[1], "no") == 0)
		memcpy((char *)name + sizeof DIR + 4, "evil", 4);
	close(open((char *)name, O_CREAT | O_WRONLY, 0666));
	return 0;
}
