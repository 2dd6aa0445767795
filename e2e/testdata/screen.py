"""A full-screen program: says how large its window is and which keys are
pressed, until q."""
import curses


def main(screen):
    keys = ""
    while True:
        rows, columns = screen.getmaxyx()
        screen.erase()
        screen.addstr(0, 0, f"{columns}x{rows} keys[{keys}]", curses.A_REVERSE)
        screen.refresh()
        key = screen.getch()
        if key == curses.KEY_RESIZE:
            curses.update_lines_cols()
        elif key == curses.KEY_UP:
            keys += "^"
        elif key == ord("q"):
            return
        else:
            keys += chr(key)


curses.wrapper(main)
