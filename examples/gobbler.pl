#!/usr/bin/env perl
# A complete client of gobblerd in Perl; needs its core modules only. Copy it, change it, call it:
#
#   gobbler.pl request ACTION [FILE]                       ask for an action; its JSON document is read
#                                                          from FILE or standard input
#   gobbler.pl upload DIRECTORY PROJECT ASSET VERSION      make a new version of a directory
#
# GOBBLER_STAGING  the staging directory that gobblerd watches (required)
# GOBBLER_TIMEOUT  seconds to wait for the answer (default 600)
#
# Prints the response. Exit code: 0 done, 1 refused, 2 wrong usage, 3 no staging directory,
# 4 not answered in time (the request stays, and is answered when the daemon gets to it).
use strict;
use warnings;
use Encode qw(decode FB_CROAK);
use File::Copy qw(copy);
use File::Find qw(find);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir tempfile);
use JSON::PP;
use Time::HiRes qw(sleep time);

umask 022;    # the daemon must be able to read what we write
my ($staging, $temporary, $request, $copied);

sub fail {
    my ($code, $reason) = @_;
    print STDERR "gobbler.pl: $reason\n";
    exit $code;
}

END {         # a request that has not begun by now is never executed
    my $code = $?;
    unlink grep { defined } $temporary, $request && "$staging/$request";
    remove_tree($copied) if defined $copied;
    $? = $code;
}
$SIG{INT}  = sub { exit 130 };
$SIG{TERM} = sub { exit 143 };

# Write the document under another name, then rename it; returns the request's name.
sub drop {
    my ($action, $json) = @_;
    (my $file, $temporary) = eval { tempfile('new-XXXXXXXXXXXX', DIR => $staging) }
        or fail(3, "cannot write into $staging");
    binmode $file;
    print {$file} $json;
    close $file or fail(3, "cannot write $temporary: $!");
    chmod 0644, $temporary;    # tempfile makes 0600
    $request = "request-$action-" . substr($temporary, length("$staging/new-"));
    rename $temporary, "$staging/$request" or fail(3, "cannot rename $temporary: $!");
    return $request;
}

# Wait for the response; returns its JSON.
sub wait_for {
    my ($name) = @_;
    my $answer = "$staging/responses/$name";
    my ($deadline, $pause) = (time + ($ENV{GOBBLER_TIMEOUT} // 600), 0.02);
    until (-e $answer) {
        if (time >= $deadline) {
            undef $request;    # whoever answers later will need these
            undef $copied;
            fail(4, "no answer to $name yet: is gobblerd running and watching $staging?\nIt will be in $answer");
        }
        sleep $pause;
        $pause = $pause * 1.5 < 2 ? $pause * 1.5 : 2;
        opendir my $again, "$staging/responses";    # makes NFS look again
    }
    open my $file, '<:raw', $answer or fail(3, "cannot read $answer: $!");
    local $/;
    return scalar <$file>;
}

# Copy a directory into staging: symbolic links and empty directories stay what they are.
sub stage {
    my ($from) = @_;
    $copied = eval { tempdir('upload-XXXXXXXXXXXX', DIR => $staging) } // fail(3, "cannot write into $staging");
    chmod 0755, $copied;       # tempdir makes 0700
    find({ no_chdir => 1, wanted => sub {
        my $to = $copied . substr($_, length $from);
        return if $to eq $copied;
        my $done = -l $_ ? symlink(readlink $_, $to) : -d _ ? mkdir($to) : copy($_, $to);
        $done or fail(2, "cannot copy $_: $!");
    } }, $from);
    return substr($copied, length("$staging/"));
}

sub upload {
    my ($directory, @place) = @_;
    -d $directory or fail(2, "$directory is not a directory");
    my %document = (source => stage($directory =~ s{(?<=.)/+$}{}r));
    @document{qw(project asset version)} = map { decode('UTF-8', $_, FB_CROAK) } @place;
    return drop('upload', encode_json(\%document));
}

my ($verb, @given) = (@ARGV, '');
pop @given;
$staging = $ENV{GOBBLER_STAGING} // '';
$staging =~ s{(?<=.)/+$}{};
length $staging         or fail(3, 'set GOBBLER_STAGING to the staging directory that gobblerd watches');
-d "$staging/responses" or fail(3, "$staging is not the staging directory of a gobblerd");

my $name;
if ($verb eq 'upload' && @given == 4) {
    $name = upload(@given);
} elsif ($verb eq 'request' && (@given == 1 || @given == 2)) {
    my ($action, $path) = @given;
    my $file = \*STDIN;
    if (defined $path) { open $file, '<', $path or fail(2, "cannot read $path: $!") }
    binmode $file;
    $name = drop($action, do { local $/; <$file> // '' });
} else {
    fail(2, 'usage: gobbler.pl request ACTION [FILE] | gobbler.pl upload DIRECTORY PROJECT ASSET VERSION');
}
my $response = wait_for($name);
print $response;
print "\n" unless $response =~ /\n\z/;
exit(decode_json($response)->{status} eq 'SUCCESS' ? 0 : 1);
