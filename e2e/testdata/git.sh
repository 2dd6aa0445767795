# A day's work with git. Its last line is compared with what it must be.
set -eu
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='2026-01-02T03:04:05Z' GIT_COMMITTER_DATE='2026-01-02T03:04:05Z'
git config --global user.name 'A Person'
git config --global user.email person@example.com
git config --global init.defaultBranch main
git config --global gc.auto 0

git init -q repo
cd repo
for d in a b c d e; do
	mkdir $d
	i=0
	while [ $i -lt 40 ]; do
		printf 'file %s of %s\nsecond line\nthird line\n' $i $d >$d/$i.txt
		i=$((i + 1))
	done
	git add $d
	git commit -qm "add $d"
done

git checkout -qb side
sed -i 's/second/2nd/' a/*.txt
git mv b/0.txt b/zero.txt
git rm -q c/1.txt
git commit -qam 'work on the side'
git checkout -q main
printf 'main was here\n' >>a/0.txt
git commit -qam 'work on main'
git merge -q --no-ff -m 'merge the side' side >/dev/null
test "$(sed -n 2p a/0.txt)" = '2nd line'
test "$(tail -n1 a/0.txt)" = 'main was here'

# A conflict must stop the merge, as ever.
git checkout -qb conflict HEAD~1
printf 'otherwise\n' >a/0.txt
git commit -qam 'contradict'
if git merge -q main >/dev/null 2>&1; then
	echo 'a conflicting merge went through' >&2
	exit 1
fi
git merge --abort
git checkout -q main

git tag -am 'a version' v1
printf 'not yet\n' >>b/2.txt
git stash -q
git stash pop -q
git checkout -q -- b/2.txt
git gc -q --aggressive --prune=now
git fsck --full --strict
git clone -q . ../copy
git -C ../copy log --format=%H | cmp - <(git log --format=%H)
git worktree add -q ../tree side
test -f ../tree/b/zero.txt
git -c core.pager=cat -c color.ui=always log --graph --stat -p >../log.txt
test -s ../log.txt
git archive --format=tar HEAD | tar -tf - | wc -l >../files.txt
git status --porcelain | wc -l | grep -qx 0
echo "$(git rev-list --count HEAD) commits, $(git ls-files | wc -l) files, tree $(git rev-parse 'HEAD^{tree}')"
