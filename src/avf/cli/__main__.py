from avf.cli import main

main()
