def test_it(supermask, place, trained, capsys):
    o = supermask(*[x for x in place.train_arguments(trained.parent/"again") if x!="--quiet"])
    with capsys.disabled():
        print(o.stdout); print(o.stderr)
        for a in (("inspect",trained),("evaluate",trained,"--file",place.dev),("predict",trained,"--sentence","w1 w2"),("apply",trained,"--output",trained.parent/"merged"),("tasks",),("bases",),
           ("evaluate",trained)):
            o=supermask(*a); print("$",*a); print(o.stdout); print("!", o.stderr, o.exit_code)
